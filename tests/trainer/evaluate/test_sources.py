from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganserve.bundle import CARD_FILE, LatentInput, read_card
from ganserve.latents import DISTRIBUTIONS, latents_from_seed
from tests.client.fake_server import FakeServer, model, pixels_of
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator, tiny_pixels
from trainer.errors import UserError
from trainer.evaluate import sources
from trainer.evaluate.sources import Facts, LocalSource, ServedSource, Source, open_path, open_run
from trainer.progress import Progress

SHAPE = (3, 6, 6)
LATENTS = latents_from_seed(5, 3, 4)


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a tiny generator, of seeds 1 and 2; the second as TorchScript too."""
    folder = tmp_path_factory.mktemp("models")
    publish_tiny_bundle(folder, version=1, seed=1, shape=SHAPE)
    publish_tiny_bundle(folder, version=2, seed=2, shape=SHAPE, torchscript=True)
    return folder


def assert_makes(source: Source, pixels: NDArray[np.uint8], quiet: Progress) -> None:
    images = source.images(3, 5, quiet)
    assert images.dtype == torch.uint8
    difference = np.abs(images.numpy().astype(int) - pixels.transpose(0, 3, 1, 2))
    assert difference.max() <= 1


@pytest.mark.parametrize(
    ("path", "runtime", "seed", "kind"),
    [
        ("tiny", None, 2, "onnx"),  # of the newest version
        ("tiny/1", None, 1, "onnx"),
        ("tiny/2", "torchscript", 2, "torchscript"),
        ("tiny/2/model.pt", None, 2, "torchscript"),
        ("tiny/1/model.onnx", "onnx", 1, "onnx"),
    ],
)
def test_a_bundle_makes_the_images_of_its_network(
    path: str, runtime: sources.Runtime | None, seed: int, kind: str, tiny_models: Path, quiet: Progress
) -> None:
    source = open_path(tiny_models / path, runtime, None)
    assert (source.facts.kind, source.facts.dataset, source.facts.size) == (kind, "noise", (6, 6))
    assert str(tiny_models / "tiny" / str(seed)) in source.facts.name
    assert_makes(source, tiny_pixels(LATENTS, seed, SHAPE), quiet)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", ["model.onnx", "model.pt"])
def test_a_bundle_draws_from_the_distribution_on_its_card(
    name: str, distribution: Any, tiny_models: Path, tmp_path: Path, quiet: Progress
) -> None:
    folder = Path(shutil.copytree(tiny_models / "tiny" / "2", tmp_path / "tiny" / "2"))
    card = read_card(folder)
    card = msgspec.structs.replace(card, input=LatentInput(latent_dim=4, distribution=distribution))
    (folder / CARD_FILE).write_bytes(msgspec.json.encode(card))
    pixels = tiny_pixels(latents_from_seed(5, 3, 4, distribution), 2, SHAPE)
    assert_makes(open_path(folder / name, None, None), pixels, quiet)


@pytest.mark.parametrize(("name", "latent_dim"), [("model.onnx", None), ("model.pt", 4)])
def test_a_file_without_a_card_makes_the_same_images(
    name: str, latent_dim: int | None, tiny_models: Path, tmp_path: Path, quiet: Progress
) -> None:
    source = open_path(Path(shutil.copy(tiny_models / "tiny" / "2" / name, tmp_path)), None, latent_dim)
    assert (source.facts.dataset, source.facts.size) == ("", None)
    assert_makes(source, tiny_pixels(LATENTS, 2, SHAPE), quiet)


@pytest.mark.parametrize(
    ("path", "runtime", "latent_dim", "words"),
    [
        ("nowhere", None, None, "not a run folder, bundle or file"),
        ("tiny/2/model.pt", "onnx", None, "--runtime onnx: model.pt is a file for torchscript"),
        ("alone.pt", None, None, "--latent-dim: there is no card.json next to alone.pt"),
        ("broken.pt", None, 4, "not TorchScript"),
        ("broken.onnx", None, None, "not a valid graph"),
        ("tiny/1", "torchscript", None, "model.pt"),
        ("a2b", None, None, "translates images; score its run folder"),
        ("changed", None, None, "sha256"),
    ],
)
def test_what_cannot_be_opened_is_named_with_its_reason(
    path: str, runtime: sources.Runtime | None, latent_dim: int | None, words: str, tiny_models: Path, tmp_path: Path
) -> None:
    publish_tiny_translator(tmp_path, "a2b", shape=SHAPE)
    (tmp_path / "tiny").symlink_to(tiny_models / "tiny")
    shutil.copy(tiny_models / "tiny" / "2" / "model.pt", tmp_path / "alone.pt")
    for suffix in ("pt", "onnx"):
        (tmp_path / f"broken.{suffix}").write_bytes(b"no graph")
    with (publish_tiny_bundle(tmp_path, "changed", shape=SHAPE) / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=words):
        open_path(tmp_path / path, runtime, latent_dim)


def test_a_file_that_takes_other_latents_is_named(tiny_models: Path, tmp_path: Path) -> None:
    source = open_path(Path(shutil.copy(tiny_models / "tiny" / "2" / "model.pt", tmp_path)), None, 7)
    with pytest.raises(UserError, match=r"model\.pt: cannot make images from latents"):
        next(source.chunks(1, 0))


@pytest.mark.parametrize("result", [torch.zeros(1, 3), torch.zeros(1, 1, 4, 6)])
def test_what_a_graph_makes_must_be_images(result: Tensor) -> None:
    source = LocalSource(Facts("a graph", "onnx"), 2, lambda _: result)
    with pytest.raises(UserError, match=r"a graph: returns shape .* which is no images"):
        next(source.chunks(1, 0))


@pytest.mark.parametrize(
    ("size", "rows"), [((512, 512), [4, 4, 2]), ((256, 1024), [4, 4, 2]), ((8, 8), [10]), (None, [10])]
)
def test_large_images_are_made_a_few_at_a_time(size: tuple[int, int] | None, rows: list[int]) -> None:
    given: list[NDArray[np.float32]] = []

    def compute(latents: NDArray[np.float32]) -> Tensor:
        given.append(latents)
        return torch.zeros(len(latents), 1, 2, 2, dtype=torch.uint8)

    list(LocalSource(Facts("a graph", "onnx", size=size), 2, compute).chunks(10, 3))
    assert [len(latents) for latents in given] == rows
    np.testing.assert_array_equal(np.concatenate(given), latents_from_seed(3, 10, 2))


def test_a_run_makes_the_images_of_its_generator(quiet: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(4, 36), nn.Tanh(), nn.Unflatten(1, (1, 6, 6)))
    exported = SimpleNamespace(network=network, latent_dim=4, size=(6, 6))
    monkeypatch.setattr(sources, "load_generators", lambda run, which: [exported] if which == "best" else [])
    source = open_run(Path("runs/1"), "best", "digits", torch.device("cpu"))
    assert source.facts == Facts("runs/1 (best)", "run", "digits", (6, 6))
    images = (network(torch.from_numpy(LATENTS)) + 1) * 127.5
    assert_makes(source, images.detach().round().byte().permute(0, 2, 3, 1).numpy(), quiet)


def test_a_served_model_makes_the_images_of_its_newest_version(quiet: Progress) -> None:
    with FakeServer().serve() as server:
        server.models = [model(width=4, latent_dim=6), model(width=4, latent_dim=4, version=7, dataset="folder:faces")]
        source = ServedSource(server.address, "dcgan", None)
        assert source.facts == Facts(f"dcgan/7 at {server.address}", "served", "", (4, 4))
        assert_makes(source, pixels_of(LATENTS, 4, 4, 1), quiet)
        assert {request.version for request in server.requests} == {7}
        assert ServedSource(server.address, "dcgan", 3).facts.dataset == "digits"


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("cat", None, "--model cat: the server at .* has dcgan/3, a2b/5"),
        ("dcgan", 4, "--model dcgan: the server at .* has dcgan/3, a2b/5"),
        ("a2b", None, "--model a2b: translates images"),
    ],
)
def test_a_served_model_that_cannot_be_scored_is_named(name: str, version: int | None, words: str) -> None:
    with FakeServer().serve() as server, pytest.raises(UserError, match=words):
        ServedSource(server.address, name, version)
