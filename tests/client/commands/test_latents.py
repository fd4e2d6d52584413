from __future__ import annotations

import json
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from ganserve.grids import image_grid
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, pixels_of
from tests.client.test_main import error_of, run

LATENTS = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
IMAGES = pixels_of(LATENTS, 4, 3, 1)


@pytest.fixture
def files(here: Path) -> Path:
    np.save("a.npy", LATENTS)
    np.savez("a.npz", first=LATENTS[:2], rest=LATENTS[2:])
    Path("a.json").write_text(json.dumps({"latents": LATENTS.tolist()}))
    Path("a.csv").write_text("\n".join(",".join(map(repr, row)) for row in LATENTS.tolist()))
    return here


@pytest.mark.parametrize("name", ["a.npy", "a.json", "a.csv"])
def test_the_latents_of_a_file_become_a_grid(server: FakeServer, files: Path, name: str) -> None:
    result = run("latents", name, "--model", "dcgan", "--columns", "3", "--scale", "1", address=server.address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"latents.png: 5 images of dcgan:3 (latents of {name})\n"
    with Image.open("latents.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(image_grid(IMAGES, 3)))


@pytest.mark.parametrize("out", ["new/folder", "new/with.dot/", "there.png"])
def test_a_folder_gets_one_file_per_row(server: FakeServer, files: Path, out: str) -> None:
    (files / "there.png").mkdir()
    result = run("latents", "a.npy", "--model", "dcgan", "--out", out, address=server.address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{out.removesuffix('/')}/: 5 images of dcgan:3 (latents of a.npy)\n"
    made = sorted(Path(out).iterdir())
    assert [path.name for path in made] == ["00000.png", "00001.png", "00002.png", "00003.png", "00004.png"]
    for path, image in zip(made, IMAGES, strict=True):
        with Image.open(path) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image[..., 0])


def test_one_array_of_an_npz_is_used_and_reported_as_json(server: FakeServer, files: Path) -> None:
    result = run("latents", "a.npz:rest", "--model", "dcgan", "--out", "b.png", "--json", address=server.address)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "file": "b.png",
        "model": "dcgan",
        "version": 3,
        "images": 3,
        "latents": "a.npz:rest",
    }
    np.testing.assert_array_equal(np.frombuffer(server.requests[0].latents.data, "<f4").reshape(3, 6), LATENTS[2:])


def test_many_latents_are_sent_in_several_requests_of_one_version(server: FakeServer, here: Path) -> None:
    server.models = [model(max_request_rows=10)]
    np.save("many.npy", np.random.default_rng(0).standard_normal((25, 6)))
    assert run("latents", "many.npy", "--model", "dcgan", "--out", "all", address=server.address).exit_code == 0
    assert len(list(Path("all").iterdir())) == 25
    assert [request.latents.shape[0] for request in server.requests] == [10, 10, 5]
    assert {request.version for request in server.requests} == {3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'FILE'"),
        (["no.npy"], "no.npy: cannot be read (No such file or directory)"),
        (["a.dat"], "a.dat: unknown format; convert it to one of .npy, .npz, .json, .csv, .txt"),
        (["a.npz"], "a.npz: holds several arrays (first, rest); name one, as FILE.npz:NAME"),
        (["wide.npy"], "wide.npy: its latents have 7 numbers each, but dcgan:3 takes 6"),
        (["a.npy", "--out", "a.gan"], "'--out': a.gan: has no known image extension; use one of .png, .jpg, .jpeg"),
        (["a.npy", "--out", "a.gan"], "; or end it with / for a folder"),
        (["a.npy", "--out", "a.npy/b.png"], "'--out': a.npy/b.png: cannot be written, because"),
        (["a.npy", "--out", "a.npy/"], "'--out': a.npy: cannot be written, because"),
        (
            ["a.npy", "--out", "folder", "--columns", "2"],
            "--columns: applies to a grid, not to a folder",
        ),
        (["a.npy", "--columns", "0"], "'--columns': must be a whole number in 1 .. 10000"),
        (["long.npy", "--scale", "1"], "--out: 10001 images of 3x4 are too many for one picture"),
        (["a.npy", "--model", "a2b"], "--model: 'a2b' does not generate images from latents"),
        (["a\n\x1b[2J.npy"], "a ?[2J.npy: cannot be read"),
    ],
)
def test_a_mistake_prints_a_one_line_error_and_writes_nothing(
    server: FakeServer, files: Path, arguments: list[str], message: str
) -> None:
    np.save("wide.npy", np.zeros((2, 7), np.float32))
    np.save("long.npy", np.zeros((10_001, 6), np.float32))
    before = sorted(files.iterdir())
    result = run("latents", "--model", "dcgan", *arguments, address=server.address)
    assert result.exit_code == 2
    assert message in error_of(result)
    assert sorted(files.iterdir()) == before


def test_a_server_error_keeps_the_complete_files(server: FakeServer, here: Path) -> None:
    server.models = [model(max_request_rows=3)]
    np.save("a.npy", LATENTS)

    def once(request: pb.GenerateRequest) -> pb.GenerateResponse:
        server.failures.append((grpc.StatusCode.INTERNAL, "out of order"))
        return server.images_for(request)

    server.answer = once
    result = run("latents", "a.npy", "--model", "dcgan", "--out", "all", address=server.address)
    assert result.exit_code == 1
    assert "out of order" in error_of(result)
    assert sorted(path.name for path in Path("all").iterdir()) == ["00000.png", "00001.png", "00002.png"]
