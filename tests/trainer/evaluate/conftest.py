"""A small run on digits, its bundle, and a classifier that trains quickly."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from exporter.export import export_all, plan_exports
from exporter.source import from_run
from tests.end_to_end.conftest import running_server
from tests.trainer.conftest import small_config
from trainer.config import CycleConfig
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining
from trainer.training.kinds import load_data
from trainer.training.loop import train


@pytest.fixture(autouse=True)
def _cache(classifier_cache: Path) -> None:
    """An empty cache of classifiers for every test."""


def _train(model: str, preset: str, out: Path) -> Path:
    config = small_config(model, preset, steps=2, dataset="digits", seed=3)
    run = RunFolder.create(out, config)
    quiet = Progress(Console(file=io.StringIO()))
    with pytest.MonkeyPatch.context() as patch:
        for training in (GanTraining, CycleTraining):
            patch.setattr(training, "draw_figures", lambda *_: None)
        data = load_data(config, quiet)
        assert isinstance(config, CycleConfig) == (model == "cyclegan")
        train(config, run, data, quiet)
    return run.path


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DCGAN of digits after two steps."""
    return _train("dcgan", "dcgan-digits", tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def cycle_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CycleGAN of digits after two steps."""
    return _train("cyclegan", "cyclegan-digits", tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def models(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the exported DCGAN."""
    folder = tmp_path_factory.mktemp("models")
    sources = from_run(trained_run, "best")
    export_all(list(zip(sources, plan_exports(folder, ["dcgan"], None), strict=True)))
    return folder


@pytest.fixture(scope="session")
def address(models: Path) -> Iterator[str]:
    """The address of a server of these models."""
    with running_server(models) as server:
        yield server.address
