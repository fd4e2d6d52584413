"""One process's work on a run: what it has measured, and how that reaches metrics.jsonl and the user's eyes.

Measurements stay on the training device until a line is due, so that a GPU need not wait for every step.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from trainer.checkpoint import RunFolder
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.errors import TrainingDivergedError
from trainer.progress import Progress
from trainer.step import StepResult, TrainingState


@dataclass
class Session:
    """One process's work on a run."""

    config: TrainConfig
    run: RunFolder
    data: ImageData
    state: TrainingState
    progress: Progress
    data_sha256: str
    train_seconds: float = 0.0
    best_score: float | None = None
    score: float | None = None  # of the last evaluation
    scored_step: int = 0
    pending: list[tuple[int, StepResult]] = field(default_factory=list)  # measured, not yet read from the device

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the data; what does not fill one waits for another epoch's order."""
        return len(self.data) // self.config.batch_size

    @property
    def total_steps(self) -> int:
        """The step that the run ends at."""
        return self.config.steps or (self.config.epochs or 0) * self.steps_per_epoch


def log_steps(session: Session) -> None:
    """Reads the pending measurements, appends them to metrics.jsonl, and prints the newest.

    Raises:
        TrainingDivergedError: one of them is not finite.
    """
    if not session.pending:
        return
    config, state = session.config, session.state
    started = time.perf_counter()
    rows = [_row(session, step, result) for step, result in session.pending]
    session.pending.clear()
    session.train_seconds += time.perf_counter() - started  # on a GPU the steps themselves are waited for here
    images_per_s = state.step * config.batch_size / max(session.train_seconds, 1e-9)
    finite = list(itertools.takewhile(_is_finite, rows))
    session.run.append_metrics([row | {"images_per_s": round(images_per_s, 1)} for row in finite])
    if len(finite) < len(rows):
        raise TrainingDivergedError(diverged(session, rows[len(finite)]["step"], "a loss"))
    newest = rows[-1]
    g_loss = next((row["g_loss"] for row in reversed(rows) if row["g_loss"] is not None), None)
    left_s = (session.total_steps - state.step) * session.train_seconds / state.step
    session.progress.say(
        f"[epoch {newest['epoch']}][step {state.step}/{session.total_steps}]"
        f"  D loss {newest['d_loss']:.4f}  G loss {'-' if g_loss is None else f'{g_loss:.4f}'}"
        f"  D(x) {newest['d_real']:.4f}  D(G(z)) {newest['d_fake']:.4f}"
        f"  {images_per_s:.0f} images/s  {_clock(left_s)} left"
    )


def _is_finite(row: dict[str, Any]) -> bool:
    return all(math.isfinite(value) for value in row.values() if isinstance(value, float))


def _row(session: Session, step: int, result: StepResult) -> dict[str, Any]:
    def read(value: Tensor | None) -> float | None:
        return None if value is None else value.item()

    return {
        "kind": "step",
        "step": step,
        "epoch": (step - 1) // session.steps_per_epoch + 1,
        "images": step * session.config.batch_size,
        "d_loss": result.discriminator_loss.item(),
        "g_loss": read(result.generator_loss),
        "d_real": result.real_score.item(),
        "d_fake": result.fake_score.item(),
        "d_fake_after": read(result.fake_score_after),
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
