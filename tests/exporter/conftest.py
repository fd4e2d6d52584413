"""Exported bundles for all tests that only read them: the first export of a process takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from exporter.export import export, plan_export
from exporter.graph import ServedGraph, SpatialLatents, served_graph
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
        return served_graph(self.source.network, self.source.input, self.source.value_min, self.source.value_max)


def make_source(generator: nn.Module) -> Source:
    """A source of a generator, as a run would give it."""
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
    """A source of one direction of an image-to-image run."""
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
    """The tutorial's generator, exported as version 1 of "tiny"; do not change it."""
    torch.manual_seed(0)
    return _export(tmp_path_factory, make_source(SpatialLatents(randomise(TutorialGenerator()))))


@pytest.fixture(scope="session")
def exported_translator(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A small translator, exported as version 1 of "tiny"; do not change it."""
    torch.manual_seed(0)
    return _export(tmp_path_factory, make_translator_source(ResNetTranslator()))


@pytest.fixture(params=["exported", "exported_translator"])
def any_exported(request: pytest.FixtureRequest) -> Exported:
    """Each of the two above."""
    exported: Exported = request.getfixturevalue(request.param)
    return exported


def _export(tmp_path_factory: pytest.TempPathFactory, source: Source) -> Exported:
    repository = tmp_path_factory.mktemp("repository")
    folder, card = export(source, plan_export(repository, "tiny", None))
    return Exported(repository, folder, card, source)
