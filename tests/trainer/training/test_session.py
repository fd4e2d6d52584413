from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from PIL import Image

from tests.trainer.tiny_trainings import CPU, growing_config, noise_images, train_run
from trainer.config import GanConfig
from trainer.errors import TrainingDivergedError
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.runs.run_log import RunLog
from trainer.training.base import Measurements
from trainer.training.gan import GanTraining
from trainer.training.session import Session

New = Callable[..., Session]


class Noted(RunLog):
    """Keeps the points of curves."""

    def __init__(self) -> None:
        self.points: list[tuple[int, Mapping[str, float]]] = []

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.points.append((step, values))

    def text(self, step: int, name: str, line: str) -> None: ...

    def image(self, step: int, name: str, image: Image.Image) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def new(tmp_path: Path, quiet: Progress) -> New:
    """Makes a session of a run over 18 images."""

    def make(**fields: Any) -> Session:
        config: GanConfig = growing_config(**fields)
        run = RunFolder.create(tmp_path, config)
        return Session(config, run, GanTraining(config, noise_images(config), CPU), quiet)

    return make


def measured(d_loss: float = 1.0, g_loss: float | None = 2.0) -> Measurements:
    values = {"d_loss": d_loss, "g_loss": g_loss, "d_real": 0.5, "d_fake": 0.25}
    return {name: None if value is None else torch.tensor(value) for name, value in values.items()}


def at(session: Session, step: int, images: int) -> Session:
    session.training.state.step, session.training.state.images_seen = step, images
    return session


def pass_time(session: Session, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops the clock some seconds after the start of the session."""
    monkeypatch.setattr("trainer.training.session.time.perf_counter", lambda: session.began_s + seconds)


def step_rows(session: Session) -> list[dict[str, Any]]:
    return [row for row in session.run.metrics.read() if row["kind"] == "step"]


def printed(session: Session) -> list[str]:
    text: str = session.progress.console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


@pytest.mark.parametrize(
    ("length", "step", "images", "expected"),
    [
        ({"steps": 10}, 4, 16, (4, 10)),
        ({"steps": None, "images": 40}, 4, 16, (16, 40)),
        ({"steps": None, "images": 40}, 11, 42, (40, 40)),  # the last batch may go over the end
        ({"steps": None, "epochs": 3}, 4, 16, (16, 54)),
    ],
)
def test_the_length_is_in_steps_or_in_images(
    length: dict[str, int | None], step: int, images: int, expected: tuple[int, int], new: New
) -> None:
    session = at(new(**length), step, images)
    assert session.length == expected
    assert session.finished == (expected[0] == expected[1])


def test_an_epoch_is_a_whole_pass_over_the_images(new: New) -> None:
    session = new()
    assert [at(session, 1, images).epoch for images in (0, 17, 18, 35, 36)] == [0, 0, 1, 1, 2]


def test_pending_steps_are_written_once_and_the_newest_is_told(new: New) -> None:
    session = at(new(), 2, 20)
    session.train_seconds = 4.0
    session.pending = [(1, 18, measured(d_loss=0.5)), (2, 20, measured(d_loss=0.75))]
    session.log_steps()
    session.log_steps()
    rows = step_rows(session)
    assert [(row["kind"], row["step"], row["images"], row["epoch"]) for row in rows] == [
        ("step", 1, 18, 1),
        ("step", 2, 20, 2),
    ]
    assert [row["d_loss"] for row in rows] == [0.5, 0.75]
    assert rows[0]["images_per_s"] == pytest.approx(5.0, abs=0.2)
    (line,) = printed(session)
    assert re.fullmatch(
        r"\[step 2/10\] D 0\.750 G 2\.000 D\(x\) 0\.500 D\(G\(z\)\) 0\.250 [45]\.\d images/s \d:\d\d left",
        line,
    )


def test_speed_and_memory_are_written_with_the_steps(new: New, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.training.session.peak_memory_gb", lambda _: {"process_gb": 1.23456})
    session = at(new(), 0, 100)
    session.train_seconds = 7.0  # of an earlier process
    session.begin()
    pass_time(session, 0.0, monkeypatch)
    log = Noted()
    session.logs = (log,)
    for step, images, seconds in ((1, 118, 11.0), (2, 127, 11.5)):
        at(session, step, images).pending = [(step, images, measured())]
        session.train_seconds = seconds
        session.log_steps()
    rows = [row for row in session.run.metrics.read() if row["kind"] == "resources"]
    assert rows == [
        {"kind": "resources", "step": 1, "recent_images_per_s": 4.5, "process_gb": 1.235},
        {"kind": "resources", "step": 2, "recent_images_per_s": 18.0, "process_gb": 1.235},
    ]
    points = [(step, values["speed/recent_images_per_s"], values["memory/process_gb"]) for step, values in log.points]
    assert points == [(1, 4.5, 1.235), (2, 18.0, 1.235)]


def test_what_a_step_does_not_measure_is_told_as_it_was_last(new: New) -> None:
    session = at(new(), 3, 12)
    session.pending = [(1, 4, measured(g_loss=7.0)), (2, 8, measured(g_loss=6.0)), (3, 12, measured(g_loss=None))]
    session.log_steps()
    assert " G 6.000 " in printed(session)[0]
    assert [row["g_loss"] for row in step_rows(session)] == [7.0, 6.0, None]


def test_what_was_never_measured_is_told_as_a_dash(new: New) -> None:
    session = at(new(), 1, 4)
    session.pending = [(1, 4, measured(g_loss=None))]
    session.log_steps()
    assert " G - D(x)" in printed(session)[0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_only_the_steps_before_a_loss_that_is_not_finite_are_written(bad: float, new: New) -> None:
    session = at(new(), 3, 12)
    session.pending = [(1, 4, measured()), (2, 8, measured(d_loss=bad)), (3, 12, measured())]
    with pytest.raises(TrainingDivergedError, match=r"^step 2: a loss is NaN or infinite; there is no checkpoint"):
        session.log_steps()
    assert [row["step"] for row in step_rows(session)] == [1]


@pytest.mark.parametrize(
    ("passed_s", "left"),
    [(1.0, r"0:0\d left"), (70.0, r"1:4\d left"), (3600.0, r"1:30:0\d left")],  # six steps to go after four, no growth
)
def test_the_time_left_is_told_in_minutes_or_hours(
    passed_s: float, left: str, new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = at(new(growth=None), 4, 16)
    pass_time(session, passed_s, monkeypatch)
    session.pending = [(4, 16, measured())]
    session.log_steps()
    assert re.search(rf" {left}$", printed(session)[0])


def test_larger_images_are_expected_to_take_longer(new: New, monkeypatch: pytest.MonkeyPatch) -> None:
    session = at(new(steps=None, images=48), 2, 8)
    pass_time(session, 8 * 4 * 4.0, monkeypatch)  # a second a pixel
    # Sixteen images each while 8x8 fades in and stabilises, and as many of 16x16.
    assert session.seconds_left == pytest.approx(16 * 8 * 8 + 24 * 16 * 16)


def test_without_growth_all_images_are_expected_to_take_as_long(new: New, monkeypatch: pytest.MonkeyPatch) -> None:
    session = at(new(steps=None, images=48, growth=None), 2, 12)
    pass_time(session, 6.0, monkeypatch)
    assert session.seconds_left == pytest.approx(18.0)


def test_a_resumed_run_is_expected_to_take_as_long_as_its_steps_since_then(
    new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = at(new(steps=None, images=48, growth=None), 2, 12)
    session.begin()
    at(session, 4, 24)
    pass_time(session, 6.0, monkeypatch)
    assert session.seconds_left == pytest.approx(12.0)


def test_steps_that_are_left_are_expected_to_take_longer_at_larger_sizes(
    new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = at(new(steps=12), 2, 8)  # ten steps of at most four images to go
    pass_time(session, 8 * 4 * 4.0, monkeypatch)
    assert session.seconds_left == pytest.approx(16 * 8 * 8 + 24 * 16 * 16)


def test_the_floor_is_measured_before_the_first_evaluation_of_each_size(
    tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = growing_config(evaluate_every_steps=1)
    run = RunFolder.create(tmp_path, config)
    train_run(config, noise_images(config), run, quiet, monkeypatch)
    found = [(row["kind"], row["image_size"]) for row in run.metrics.read() if row["kind"] in {"floor", "evaluation"}]
    sizes = [size for kind, size in found if kind == "floor"]
    assert sizes == [4, 8, 16]
    assert all(found.index(("floor", size)) < found.index(("evaluation", size)) for size in sizes)


def test_a_run_whose_best_checkpoint_was_chosen_by_another_metric_chooses_anew(
    tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = growing_config(steps=4, best_by="recall")
    run = RunFolder.create(tmp_path, config)
    train_run(config, noise_images(config), run, quiet, monkeypatch)
    by_swd = replace(config, best_by="")
    session = Session(by_swd, run, GanTraining(by_swd, noise_images(by_swd), CPU), quiet)
    session.restore()
    assert session.best_score == run.read_metadata("best").best_score
    missing = replace(config, best_by="coverage")
    session = Session(missing, run, GanTraining(missing, noise_images(missing), CPU), quiet)
    session.restore()
    assert session.best_score is None
