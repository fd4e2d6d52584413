from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, pixels_of, translator
from tests.client.test_main import error_of, run

EXPECTED = pixels_of(latents_from_seed(0, 10, 6), 4, 3, 1)


@pytest.fixture(autouse=True)
def small_requests(server: FakeServer) -> None:
    server.models = [model(max_request_rows=4), translator()]


def sample(server: FakeServer, *arguments: str) -> Any:
    return run("sample", "--model", "dcgan", "--n", "10", "--seed", "0", *arguments, address=server.address)


def test_a_folder_gets_the_images_of_the_seed(server: FakeServer, here: Path) -> None:
    result = sample(server, "--out", "new/out")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "new/out: 10 images of dcgan:3 (seed 0)\n"
    for row, expected in enumerate(EXPECTED):
        with Image.open(here / "new" / "out" / f"{row:05d}.png") as image:
            np.testing.assert_array_equal(np.asarray(image)[..., None], expected)


def test_an_npz_gets_the_same_images(server: FakeServer, here: Path) -> None:
    assert sample(server, "--out", "out.npz").stdout == "out.npz: 10 images of dcgan:3 (seed 0)\n"
    with np.load(here / "out.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], EXPECTED)


def test_a_zip_gets_jpeg_files_on_request(server: FakeServer, here: Path) -> None:
    assert sample(server, "--out", "OUT.ZIP", "--format", "jpeg").exit_code == 0
    assert (here / "OUT.ZIP").read_bytes().count(b"PK\x01\x02") == 11
    assert {request.format for request in server.requests} == {pb.IMAGE_FORMAT_JPEG}


@pytest.mark.parametrize("name", ["out", "out.zip", "out.tar"])
def test_the_shards_of_a_sample_are_together_the_whole(server: FakeServer, here: Path, name: str) -> None:
    whole = _files(server, here, f"whole-{name}")
    parts: dict[str, bytes] = {}
    for shard in range(3):
        part = _files(server, here, f"{shard}-{name}", "--shards", "3", "--shard", str(shard))
        assert not part.keys() & parts.keys()
        parts |= part
    assert parts == whole


def test_a_part_says_which_rows_it_holds(server: FakeServer, here: Path) -> None:
    result = sample(server, "--out", "out.npz", "--rows", "3..9")
    assert result.stdout == "out.npz: 6 images of dcgan:3 (seed 0, 3..9 of 10)\n"
    with np.load(here / "out.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], EXPECTED[3:9])
        assert arrays["first_row"] == 3


def test_a_part_needs_a_seed(server: FakeServer, here: Path) -> None:
    result = run("sample", "--model", "dcgan", "--n", "10", "--out", "a", "--rows", "0..5", address=server.address)
    assert (result.exit_code, list(here.iterdir())) == (2, [])
    assert "--seed is missing: the parts of a sample need the same one" in error_of(result)


def test_all_requests_are_for_one_version(server: FakeServer, here: Path) -> None:
    sample(server, "--out", "out")
    assert {request.version for request in server.requests} == {3}


def test_json_describes_the_result(server: FakeServer, here: Path) -> None:
    facts = json.loads(sample(server, "--out", "out.npz", "--json").stdout)
    assert facts.pop("seconds") > 0
    assert facts == {
        "out": "out.npz",
        "model": "dcgan",
        "version": 3,
        "seed": 0,
        "count": 10,
        "first_row": 0,
        "end_row": 10,
        "format": "pixels",
        "height": 4,
        "width": 3,
        "channels": 1,
        "done": 10,
        "from_before": 0,
        "complete": True,
    }


@pytest.mark.parametrize("name", ["out", "out.zip", "out.npz"])
def test_a_server_error_during_a_run_prints_a_one_line_error_that_says_how_to_resume(
    server: FakeServer, here: Path, name: str
) -> None:
    sample(server, "--out", f"whole-{name}")
    server.answer = _failing_after(server, 1)
    result = sample(server, "--out", name, "--in-flight", "1")
    assert result.exit_code == 1
    assert error_of(result).endswith(f"; 4 of 10 images are kept for {name}; run the same command to resume")
    server.answer = None
    server.requests.clear()
    again = sample(server, "--out", name)
    assert again.stdout == f"{name}: 10 images of dcgan:3 (seed 0), 4 of them from an earlier run\n"
    assert sum(request.latents.shape[0] for request in server.requests) == 6
    assert _contents(here / name) == _contents(here / f"whole-{name}")


@pytest.mark.parametrize("name", ["out", "out.npz"])
def test_ctrl_c_keeps_the_images_so_far_and_says_so(server: FakeServer, here: Path, name: str) -> None:
    def interrupt(request: pb.GenerateRequest) -> pb.GenerateResponse:
        os.kill(os.getpid(), signal.SIGINT)
        return server.images_for(request)

    before = signal.getsignal(signal.SIGINT)
    server.answer = interrupt
    result = sample(server, "--out", name, "--in-flight", "1")
    assert signal.getsignal(signal.SIGINT) is before
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == (
        f"{name}: interrupted; 4 of 10 images of dcgan:3 (seed 0) are kept; run the same command to resume\n"
    )
    server.answer = None
    assert sample(server, "--out", name).stdout.endswith(", 4 of them from an earlier run\n")


@pytest.mark.parametrize("name", ["out", "out.zip", "out.npz"])
def test_a_killed_run_can_be_resumed(server: FakeServer, here: Path, name: str) -> None:
    sample(server, "--out", f"whole-{name}")
    third, go_on = threading.Event(), threading.Event()
    requests = itertools.count(1)

    def hold_the_third(request: pb.GenerateRequest) -> pb.GenerateResponse:
        if next(requests) == 3:
            third.set()
            go_on.wait(timeout=30)
        return server.images_for(request)

    server.answer = hold_the_third
    command = [sys.executable, "-m", "client", "sample", "--model", "dcgan", "--n", "10", "--seed", "0", "--out", name]
    command += ["--in-flight", "1", "--address", server.address]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, cwd=here, env=environment) as process:
        assert third.wait(timeout=60)
        process.kill()
    go_on.set()
    server.answer = None
    assert (
        sample(server, "--out", name).stdout
        == f"{name}: 10 images of dcgan:3 (seed 0), 8 of them from an earlier run\n"
    )
    assert _contents(here / name) == _contents(here / f"whole-{name}")


def test_a_complete_output_needs_no_server(server: FakeServer, here: Path) -> None:
    sample(server, "--out", "out")
    result = run("sample", "--model", "dcgan", "--n", "10", "--out", "out")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "out: 10 images of dcgan:3 (seed 0), already complete\n"


def test_a_random_seed_is_printed_and_kept(server: FakeServer, here: Path) -> None:
    first = run("sample", "--model", "dcgan", "--n", "2", "--out", "a", address=server.address)
    seed = first.stdout.split("(seed ")[1].rstrip(")\n")
    again = run("sample", "--model", "dcgan", "--n", "2", "--out", "b", "--seed", seed, address=server.address)
    assert again.exit_code == 0
    assert _contents(here / "a") == _contents(here / "b")


def test_a_command_that_gets_no_image_leaves_no_files(server: FakeServer, here: Path) -> None:
    server.failures.extend([(grpc.StatusCode.INTERNAL, "broken")] * 4)  # one of them hits the first request
    assert sample(server, "--out", "out").exit_code == 1
    assert run("sample", "--model", "a2b", "--out", "out.zip", address=server.address).exit_code == 2
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.png"], "'--out': a.png: name a folder, FILE.zip, FILE.tar, FILE.parquet or FILE.npz"),
        (["--out", "a.tgz"], "'--out': a.tgz: name a folder, FILE.zip, FILE.tar, FILE.parquet or FILE.npz"),
        (["--out", "a.tar", "--format", "pixels"], "'--format': pixels go into an .npz"),
        (["--out", "a", "--shards", "2"], "--shards and --shard belong together: --shards 8 --shard 0"),
        (["--out", "a", "--shards", "2", "--shard", "2"], "'--shard': 2: the parts have numbers from 0 to 1"),
        (["--out", "a", "--shards", "11", "--shard", "2"], "'--shards': 11: there are only 10 images (--n)"),
        (["--out", "a", "--shards", "2", "--shard", "1", "--rows", "1..2"], "--rows and --shards: give one of them"),
        (["--out", "a", "--rows", "5..11"], "'--rows': 5..11: ends after the 10 images (--n)"),
        (["--out", "a", "--rows", "5..5"], "'--rows': 5..5: give A..B with A below B, such as 0..1000"),
        (["--out", "a", "--rows", "5-7"], "'--rows': 5-7: give A..B"),
        (["--out", "file"], "file: cannot be written, because "),
        (["--out", "file/a.zip"], "file/a.zip: cannot be written, because "),
        (["--out", "."], "holds 'file' and no sample.json; name an empty or a new folder"),
        (["--out", "file.npz"], "file.npz: already exists, and this version of 'ganclient sample' did not write it"),
        (["--out", "a.npz", "--format", "png"], "'--format': an .npz holds pixels; leave out --format"),
        (["--out", "a", "--format", "pixels"], "'--format': pixels go into an .npz; name one with --out"),
        (["--out", "a", "--format", "gif"], "'--format': 'gif' is not one of"),
        (["--out", "a", "--n", "0"], "'--n': must be a whole number in 1 .. 100000000, not '0'"),
        (["--out", "a", "--n", "1e5"], "'--n': must be a whole number"),
        (["--out", "a", "--seed", "-1"], "'--seed': must be a whole number in 0 .. 18446744073709551615"),
        (["--out", "a", "--version", "9"], "version 9 of 'dcgan' is not served; served versions: 3"),
        (["--out", "a", "--in-flight", "65"], "'--in-flight': must be a whole number in 1 .. 64"),
        (["--out", "a", "--model", "pix"], "no model 'pix' is served; served models: a2b, dcgan"),
        (["--out", "a", "--model", "a2b"], "turns images into other images; use GanClient.translate"),
    ],
)
def test_a_mistake_prints_a_one_line_error_with_the_remedy(
    server: FakeServer, here: Path, arguments: list[str], message: str
) -> None:
    (here / "file").touch()
    (here / "file.npz").touch()
    result = sample(server, *arguments)
    assert result.exit_code == 2
    assert message in error_of(result)
    assert sorted(path.name for path in here.iterdir()) == ["file", "file.npz"]


def _failing_after(server: FakeServer, requests: int) -> Any:
    answered = iter(range(requests))

    def answer(request: pb.GenerateRequest) -> pb.GenerateResponse:
        if next(answered, None) is None:
            return pb.GenerateResponse(model="another", version=3)
        return server.images_for(request)

    return answer


def _files(server: FakeServer, here: Path, name: str, *arguments: str) -> dict[str, bytes]:
    """Writes a sample and reads its files back."""
    result = sample(server, "--out", name, *arguments)
    assert result.exit_code == 0, result.output
    path = here / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {member: archive.read(member) for member in archive.namelist() if member != "sample.json"}
    if path.suffix == ".tar":
        with tarfile.open(path) as tar:
            return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    return _contents(path)


def _contents(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "sample.json"}
