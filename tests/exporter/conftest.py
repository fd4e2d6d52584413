"""One exported bundle for all tests that only read it: the first export of a process takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from exporter.bundle import Card
from exporter.export import export, plan_export
from exporter.graph import SpatialLatents
from exporter.source import Source
from tests.exporter.generators import LATENT_DIM, TutorialGenerator, randomise


@dataclass(frozen=True)
class Exported:
    repository: Path
    folder: Path
    card: Card
    source: Source


def make_source(generator: nn.Module) -> Source:
    """A source as a run would give it."""
    return Source(
        generator=generator.eval(),
        kind="dcgan",
        architecture="dcgan",
        dataset="digits",
        latent_dim=LATENT_DIM,
        training={"step": 3, "score": float("nan")},
    )


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The tutorial's generator, exported as version 1 of "tiny"; do not change it."""
    repository = tmp_path_factory.mktemp("repository")
    torch.manual_seed(0)
    source = make_source(SpatialLatents(randomise(TutorialGenerator())))
    folder, card = export(source, plan_export(repository, "tiny", None))
    return Exported(repository, folder, card, source)
