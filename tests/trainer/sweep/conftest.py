"""A small sweep that runs in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.trainer.report.made_up import CONFIG, record, row
from trainer.sweep.__main__ import main
from trainer.sweep.grid import Cell
from trainer.sweep.results import Results, TrialResult
from trainer.sweep.spec import Spec

TINY = """
title = "Tiny"
seeds = [0, 1]
show_at_steps = [2]

[base]
model = "gan"
preset = "gan-digits"
dataset = "digits"
width = 0.05
batch_size = 16
steps = 4
checkpoint_every_steps = 2
eval_images = 16
image_size = 16
device = "cpu"

[axes]
lr = [1e-4, 1e-3]
"""

WriteSpec = Callable[..., Path]


@pytest.fixture
def spec_file(tmp_path: Path) -> WriteSpec:
    """Writes a spec and returns its path."""

    def write(text: str = TINY, name: str = "tiny") -> Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def results() -> Results:
    """Two cells of two seeds; a trial of the second diverged."""
    spec = Spec(title="t", seeds=[0, 1], base={"model": "dcgan"}, axes={"lr": [1.0, 2.0]}, show_at_epochs=[1])
    low, high = (Cell(name, name, (("lr", name),), {}, CONFIG) for name in ("low", "high"))
    trials = [
        TrialResult(low, 0, "finished", "", record(row(4, 1.0, 0.5), row(8, 10.0, 0.25))),
        TrialResult(low, 1, "finished", "", record(row(4, 20.0, 0.5), row(8, 13.0, 0.75))),
        TrialResult(high, 0, "finished", "", record(row(4, 9.0, 0.1), row(8, 11.0, 0.9))),
        TrialResult(high, 1, "diverged", "NaN", record(row(4, 5.0, 0.1))),
    ]
    return Results(spec, [low, high], trials, Path("out"), "again", ["sliced_wasserstein_distance", "recall"])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def the_error(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def without_charts(patch: pytest.MonkeyPatch) -> None:
    """Leaves the charts, which are slow to draw, out of pages; test_main.py tests them."""
    for page in ("trainer.sweep.sweep_page", "trainer.report.runs"):
        for name in ("training_charts", "metric_charts"):
            patch.setattr(f"{page}.{name}", lambda *_: [])


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without charts."""
    without_charts(monkeypatch)
