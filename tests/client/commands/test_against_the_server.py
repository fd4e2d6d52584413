"""`ganclient sample` and `ganclient bench` against ganserve's own server, in its own process."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client import GanClient
from tests.client.test_main import run
from tests.end_to_end.conftest import running_server
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator

COUNT = 300  # two requests


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    publish_tiny_bundle(models)
    publish_tiny_translator(models)
    return models


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    with running_server(models) as server:
        yield server.address


@pytest.fixture(scope="module")
def generator(address: str) -> str:
    with GanClient(address) as client:
        [name] = [model.name for model in client.models() if model.task == "generate"]
        return name


def test_folder_zip_and_npz_hold_the_images_of_the_sdk(address: str, generator: str, here: Path) -> None:
    for out in ("folder", "a.zip", "a.npz"):
        result = run("sample", "--model", generator, "--n", str(COUNT), "--seed", "4", "--out", out, address=address)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
    with GanClient(address) as client:
        expected = client.generate(generator, seed=4, count=COUNT)
    with np.load("a.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], expected)
    with zipfile.ZipFile("a.zip") as archive:
        assert archive.testzip() is None
        for row, image in enumerate(expected):
            name = f"{row:05d}.png"
            file = Path("folder", name).read_bytes()
            assert archive.read(name) == file
            with Image.open(io.BytesIO(file)) as picture:
                np.testing.assert_array_equal(np.asarray(picture).reshape(image.shape), image)


@pytest.mark.parametrize("part", [[], ["--rows", "5..290"], ["--shards", "7", "--shard", "6"]], ids=" ".join)
@pytest.mark.parametrize("out", ["folder", "a.zip", "a.tar", "a.npz"])
def test_models_without_a_server_give_the_same_bytes(
    models: Path, address: str, here: Path, out: str, part: list[str]
) -> None:
    made: list[dict[str, bytes]] = []
    for flags in (["--address", address], ["--models", str(models)]):
        place = here / str(len(made)) / out
        words = ["sample", "--model", "tiny", "--n", str(COUNT), "--seed", "4", "--out", str(place), *part, *flags]
        result = run(*words)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        made.append({str(file.relative_to(place)): file.read_bytes() for file in files if file.is_file()})
    assert made[0]
    assert made[0] == made[1]


def test_a_server_and_no_server_take_turns_at_one_sample(models: Path, address: str, here: Path) -> None:
    words = ["sample", "--model", "tiny", "--n", str(COUNT), "--seed", "4", "--out"]
    assert run(*words, "whole.tar", "--address", address).exit_code == 0
    assert run(*words, "whole.tar", "--models", str(models)).stdout.endswith("already complete\n")


@pytest.mark.parametrize("flags", [["--concurrency", "2"], ["--rate", "50"]])
def test_closed_and_open_loops_get_responses(address: str, generator: str, flags: list[str]) -> None:
    arguments = ["--seconds", "0.3", "--warmup-s", "0.1", "--rows", "2", "--json", "-", *flags]
    for model in (generator, "tiny-a2b"):
        result = run("bench", "--model", model, *arguments, address=address)
        assert result.exit_code == 0, result.output
        [item] = json.loads(result.stdout)["measurements"]
        assert item["errors"] == {}
        assert item["answered"] > 0


def test_versions_are_loaded_rolled_back_and_unloaded_by_command(tmp_path: Path) -> None:
    publish_tiny_bundle(tmp_path)
    with running_server(tmp_path, "--model-control", "explicit") as server:

        def table(*arguments: str) -> list[list[str]]:
            result = run(*arguments, address=server.address)
            assert result.exit_code == 0, result.output
            return [line.split()[1:4] for line in result.stdout.splitlines()[1:]]

        publish_tiny_bundle(tmp_path, version=2)
        assert table("versions") == [["1", "ready", "newest"], ["2", "unavailable", "-"]]
        assert table("load", "tiny") == [["1", "unavailable", "-"], ["2", "ready", "newest"]]
        assert table("rollback", "tiny") == [["1", "ready", "chosen"], ["2", "unavailable", "-"]]
        (publish_tiny_bundle(tmp_path, version=3) / "model.onnx").write_bytes(b"no graph")
        broken = run("load", "tiny", "--newest", address=server.address)
        assert broken.exit_code == 1
        assert "version 3 was not loaded: tiny/3/model.onnx: its sha256 differs" in broken.stderr
        assert broken.stderr.endswith("; version 2 is served\n")
        assert run("unload", "tiny", address=server.address).stdout == "unloaded tiny\n"
        assert table("versions", "tiny") == [[str(number), "unavailable", "-"] for number in (1, 2, 3)]
