"""One process's work on a run: where it is, what it has measured, and how that reaches metrics.jsonl and the user.

Measurements stay on the training device until a line is due, so that a GPU need not wait for every step.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from trainer.config import AnyConfig
from trainer.errors import TrainingDivergedError
from trainer.parallel import is_first, means_of_all
from trainer.progress import Progress
from trainer.runs.collapse import Notice, Watch
from trainer.runs.run_folder import RunFolder
from trainer.runs.run_log import RunLog, curves_of_steps
from trainer.training.base import Evaluation, Measurements, Training


@dataclass
class Session:
    """One process's work on a run."""

    config: AnyConfig
    run: RunFolder
    training: Training
    progress: Progress
    train_seconds: float = 0.0
    evaluation: Evaluation | None = None  # the last one
    scored_step: int = 0
    epoch_step: int = 0  # of the last end of an epoch
    best_score: float | None = None
    best_size: int = 0  # pixels; of the images of the best checkpoint
    pending: list[tuple[int, int, Measurements]] = field(default_factory=list)  # step, images: not yet read
    logs: Sequence[RunLog] = ()  # that are told what the run folder is told
    notices: list[Notice] = field(default_factory=list)  # all that was ever said of this run
    given_up: bool = False  # by --on-collapse stop
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.training.images_per_epoch)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.training.state.step

    @property
    def images_seen(self) -> int:
        """Real images shown."""
        return self.training.state.images_seen

    @property
    def epoch(self) -> int:
        """Whole passes over the data."""
        return self.images_seen // self.training.images_per_epoch

    @property
    def length(self) -> tuple[int, int]:
        """How much is done and how much there is to do, both in steps, or both in real images."""
        if self.config.steps is not None:
            return self.step, self.config.steps
        total = self.config.images or (self.config.epochs or 0) * self.training.images_per_epoch
        return min(self.images_seen, total), total

    @property
    def seconds_left(self) -> float:
        """An estimate from the time that was needed so far."""
        done, total = self.length
        left = total - done if self.config.steps is None else (total - done) * self.training.batch_size
        worked = self.training.work(self.images_seen)
        return (self.training.work(self.images_seen + left) - worked) * self.train_seconds / max(worked, 1.0)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        done, total = self.length
        return done >= total

    @property
    def images_per_s(self) -> float:
        """Real images a second of training."""
        return self.images_seen / max(self.train_seconds, 1e-9)


def log_steps(session: Session) -> None:
    """Reads the pending measurements, appends them to metrics.jsonl, and prints the newest.

    Raises:
        TrainingDivergedError: one of them is not finite.
    """
    if not session.pending:
        return
    started = time.perf_counter()
    rows = [_row(session, *pending) for pending in _of_whole_batches(session.pending)]
    session.pending.clear()
    session.train_seconds += time.perf_counter() - started  # on a GPU the steps themselves are waited for here
    finite = list(itertools.takewhile(_is_finite, rows))
    finite = [row | {"images_per_s": round(session.images_per_s, 1)} for row in finite]
    record(session, finite)
    for log in session.logs:
        if finite:
            log.scalars(finite[-1]["step"], curves_of_steps(finite))
    if len(finite) < len(rows):
        raise TrainingDivergedError(diverged(session, rows[len(finite)]["step"], "a loss"))
    newest = dict(rows[-1])
    for row in reversed(rows):  # what is not measured at every step is shown as it was last
        newest |= {key: value for key, value in row.items() if newest[key] is None}
    digits = 0 if session.images_per_s >= 10 else 1
    of_steps = f"/{session.config.steps}" if session.config.steps else ""
    session.progress.say(
        f"[epoch {newest['epoch']}][step {session.step}{of_steps}]  {session.training.describe(newest)}"
        f"  {session.images_per_s:.{digits}f} images/s  {_clock(session.seconds_left)} left"
    )


def record(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Appends rows to metrics.jsonl, each followed by what the watch has to say of it, which the user is told too."""
    written: list[dict[str, Any]] = []
    notices: list[Notice] = []
    for row in rows:
        written.append(row)
        for notice in session.watch.see(row):
            notices.append(notice)
            written.append({"kind": "warning", "step": notice.step, "name": notice.name, "text": notice.text})
    if is_first():
        session.run.metrics.append(written)
    session.notices += notices
    session.given_up = session.given_up or (bool(notices) and session.config.on_collapse == "stop")
    for notice in notices:
        session.progress.say(f"warning: step {notice.step}: {notice.text}")
        for log in session.logs:
            log.text(notice.step, f"warning/{notice.name}", notice.text)


def _of_whole_batches(pending: Sequence[tuple[int, int, Measurements]]) -> list[tuple[int, int, Measurements]]:
    """What each process measured of its share of every batch -> the means, which are of the batch."""
    means = iter(means_of_all([value for *_, measured in pending for value in measured.values() if value is not None]))
    return [
        (step, images, {name: None if value is None else next(means) for name, value in measured.items()})
        for step, images, measured in pending
    ]


def _is_finite(row: dict[str, Any]) -> bool:
    return all(math.isfinite(value) for value in row.values() if isinstance(value, float))


def _row(session: Session, step: int, images: int, measured: Measurements) -> dict[str, Any]:
    def read(value: Tensor | None) -> float | None:
        return None if value is None else value.item()

    return {
        "kind": "step",
        "step": step,
        "epoch": (images - 1) // session.training.images_per_epoch + 1,
        "images": images,
        **{name: read(value) for name, value in measured.items()},
    }


def diverged(session: Session, step: int, what: str) -> str:
    """What the user is told of a NaN or infinity."""
    path = session.run.checkpoint_path("last")
    kept = f"the last good checkpoint is {path}" if path.is_file() else "there is no checkpoint yet"
    return f"step {step}: {what} is NaN or infinite; {kept}. Try a smaller --lr, or another --seed"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
