"""Runs to report on: a small one of each kind, and damaged copies."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tests.trainer.conftest import run_training, small_config
from trainer.config import override
from trainer.progress import Progress
from trainer.report.__main__ import main

KINDS = {
    "dcgan": ("dcgan", "dcgan-digits"),
    "wgan-gp": ("wgan-gp", "wgan-gp-digits"),
    "pggan": ("pggan", "pggan-small"),
    "cyclegan": ("cyclegan", "cyclegan-digits"),
}


@pytest.fixture(scope="session")
def kinds_of_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind, shared by all tests; do not change it."""
    progress = Progress(Console(file=io.StringIO(), width=200))
    runs = {}
    for kind, (model, preset) in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        config = small_config(model, preset, evaluate_every_steps=1, checkpoint_every_steps=2, steps=6)
        if kind == "dcgan":
            config = override(config, {"objective": "nonsaturating"})  # its scores are probabilities
        runs[kind] = run_training(config, folder, progress)[0].path
    return runs


@pytest.fixture
def own_run(kinds_of_runs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a run that a test may change."""
    return Path(shutil.copytree(kinds_of_runs["dcgan"], tmp_path / "0001-dcgan-digits"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without charts, which are slow to draw."""
    for name in ("training_charts", "metric_charts"):
        monkeypatch.setattr(f"trainer.report.runs.{name}", lambda *_: [])
