"""The client against ganserve's own server, in its own process, with tiny models whose outputs are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client import GanClient, InvalidRequest, LocalClient, UnknownModel
from tests.client.fake_server import encoded
from tests.client.test_main import run
from tests.end_to_end.conftest import running_server
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator, tiny_translation

SHAPE = (3, 16, 12)
IMAGES = np.random.default_rng(0).integers(0, 256, (9, 16, 12, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    publish_tiny_bundle(models)
    publish_tiny_translator(models, shape=SHAPE)
    return models


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    with running_server(models) as server:
        yield server.address


def test_arrays_files_and_pil_images_are_translated_alike(address: str) -> None:
    expected = tiny_translation(IMAGES)
    files = [encoded(image) for image in IMAGES]
    with GanClient(address) as client:
        np.testing.assert_array_equal(client.translate("tiny-a2b", IMAGES), expected)
        np.testing.assert_array_equal(client.translate("tiny-a2b", files), expected)
        np.testing.assert_array_equal(client.translate("tiny-a2b", map(Image.fromarray, IMAGES)), expected)
        png = client.translate_encoded("tiny-a2b", files)
        jpeg = client.translate_encoded("tiny-a2b", files, format="jpeg")
        floats = client.translate("tiny-a2b", IMAGES, format="float32")
        np.testing.assert_array_equal(client.translate("tiny-a2b", png), IMAGES)
        assert client.translate("tiny-a2b", jpeg).shape == IMAGES.shape
    assert floats.shape == (9, 3, 16, 12)
    assert floats.dtype == np.float32


def test_every_image_format_is_generated(address: str) -> None:
    with GanClient(address) as client:
        [generator] = [model.name for model in client.models() if model.task == "generate"]
        pixels = client.generate(generator, seed=1, count=3)
        png = client.generate_encoded(generator, seed=1, count=3)
        jpeg = client.generate_encoded(generator, seed=1, count=3, format="jpeg")
        with pytest.raises(InvalidRequest, match=r"use GanClient\.generate"):
            client.translate(generator, IMAGES)
    assert (len(pixels), len(png), len(jpeg)) == (3, 3, 3)


def test_a_client_without_a_server_gives_the_same_results(models: Path, address: str) -> None:
    calls: list[Callable[[GanClient], object]] = [
        lambda client: client.generate("tiny", seed=3, count=300),
        lambda client: client.generate("tiny", seed=3, count=2, format="float32"),
        lambda client: client.generate_encoded("tiny", seed=3, count=3, format="jpeg"),
        lambda client: client.interpolate("tiny", 1, 2, steps=9, loop=True),
        lambda client: client.translate("tiny-a2b", IMAGES, format="float32"),
        lambda client: client.card("tiny"),
        lambda client: client.models(),
        lambda client: client.versions(),
    ]
    with GanClient(address) as remote, LocalClient(models) as local:
        for call in calls:
            np.testing.assert_equal(call(local), call(remote))


def test_the_command_translates_a_folder_and_names_files_that_fail(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for index, image in enumerate(IMAGES):
        Image.fromarray(image).save(f"in/{index}.png")
    Image.new("RGB", (5, 5)).save("in/small.png")
    Path("in/broken.jpg").write_bytes(b"\xff\xd8\xff")
    arguments = ["translate", "--model", "tiny-a2b", "in", "--out", "out", "--grid", "pairs.png"]
    result = run(*arguments, address=address)
    assert result.exit_code == 2, result.output
    assert result.stdout.startswith("9 images of tiny-a2b:1 -> out/, 2 failed\npairs.png: 9 pairs")
    broken, small = sorted(result.stderr.splitlines())
    assert broken.startswith("in/broken.jpg: cannot be read (")
    assert small.startswith("in/small.png: is 5x5 (width x height), and 'tiny-a2b' takes 12x16")
    for index, image in enumerate(IMAGES):
        with Image.open(f"out/{index}.png") as made:
            np.testing.assert_array_equal(np.asarray(made), tiny_translation(image))
    Path("in/broken.jpg").unlink()
    resized = run(*arguments, "--resize", address=address)
    assert (resized.exit_code, resized.stderr) == (0, "")
    assert "10 images of tiny-a2b:1 -> out/" in resized.stdout


def test_the_list_of_models_shows_their_inputs(address: str) -> None:
    lines = [line.split() for line in run("models", address=address).stdout.splitlines()]
    inputs = {line[0]: line[lines[0].index("input")] for line in lines[1:]}
    assert inputs["tiny-a2b"] == "12x16x3"
    assert len(inputs) == 2


@pytest.mark.parametrize("model", ["tiny", "tiny-a2b"])
def test_the_sdk_gives_the_published_card(models: Path, address: str, model: str) -> None:
    published = json.loads((models / model / "1" / "card.json").read_bytes())
    with GanClient(address) as client:
        assert client.card(model) == published
        assert client.card(model, 1) == published
        with pytest.raises(UnknownModel, match="version 2 of"):
            client.card(model, 2)


def test_info_describes_every_model_and_its_files(models: Path, address: str) -> None:
    for model in ("tiny", "tiny-a2b"):
        result = run("info", model, address=address)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith(f"{model}, version 1\n")
        told = json.loads(run("info", model, "--json", address=address).stdout)
        sizes = {path.name: path.stat().st_size for path in (models / model / "1").glob("model.*")}
        assert told["file_bytes"] == sizes
        for name in sizes:
            assert f"  {name} " in result.stdout
            assert told["card"]["files"][name] in result.stdout


def test_health_reports_on_the_server_and_its_models(address: str) -> None:
    assert run("health", address=address).exit_code == 0
    assert run("health", "--model", "tiny", address=address).exit_code == 0
    result = run("health", "--model", "nope", address=address)
    assert (result.exit_code, result.stdout) == (
        1,
        "not serving: no model 'nope' is served: use one of tiny, tiny-a2b\n",
    )
