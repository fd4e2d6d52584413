"""Exported bundles, shared read-only: an export takes about a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from exporter.export import export, plan_export
from exporter.graph import ServedGraph, SpatialLatents
from exporter.source import Source
from ganserve.bundle import Card, ImageInput, LatentInput
from tests.exporter.generators import LATENT_DIM, ResNetTranslator, TutorialGenerator, randomise

IMAGE_INPUT = ImageInput(channels=3, height=8, width=12)


@dataclass(frozen=True)
class Exported:
    repository: Path
    folder: Path
    card: Card
    source: Source

    @property
    def graph(self) -> ServedGraph:
        """What both files must compute."""
        return graph_of(self.source)


def graph_of(source: Source) -> ServedGraph:
    return ServedGraph(source.network, source.input, source.value_min, source.value_max)


def make_source(generator: nn.Module) -> Source:
    """A source like that of a run of a generator."""
    return Source(
        network=generator.eval(),
        input=LatentInput(latent_dim=LATENT_DIM),
        name="dcgan",
        kind="dcgan",
        architecture="dcgan",
        dataset="digits",
        training={"step": 3, "score": float("nan")},
    )


def make_translator_source(translator: nn.Module, image_input: ImageInput = IMAGE_INPUT) -> Source:
    """A source like that of one direction of an image-to-image run."""
    return Source(
        network=translator.eval(),
        input=image_input,
        name="cyclegan-a2b",
        suffix="-a2b",
        kind="cyclegan",
        architecture="cyclegan-resnet",
        dataset="digits",
        training={"step": 3, "score": float("nan")},
    )


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The tutorial's generator, exported as version 1 of "tiny". Read only."""
    torch.manual_seed(0)
    return _export(tmp_path_factory, make_source(SpatialLatents(randomise(TutorialGenerator()))))


@pytest.fixture(scope="session")
def exported_translator(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A small translator, exported as version 1 of "tiny". Read only."""
    torch.manual_seed(0)
    return _export(tmp_path_factory, make_translator_source(ResNetTranslator()))


@pytest.fixture(params=["exported", "exported_translator"])
def any_exported(request: pytest.FixtureRequest) -> Exported:
    """Each of the two above."""
    exported: Exported = request.getfixturevalue(request.param)
    return exported


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes exports write an empty model.onnx and compare nothing, for tests of the steps before and after."""
    monkeypatch.setattr("exporter.export.write_onnx", lambda graph, name, rows, path: not path.write_bytes(b""))
    monkeypatch.setattr("exporter.export.prove_parity", lambda reference, folder, row_input: [])


def _export(tmp_path_factory: pytest.TempPathFactory, source: Source) -> Exported:
    repository = tmp_path_factory.mktemp("repository")
    folder, card = export(source, plan_export(repository, "tiny", None))
    return Exported(repository, folder, card, source)
