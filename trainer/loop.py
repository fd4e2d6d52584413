"""The training loop: when to step, log, sample, evaluate, save and stop.

What a step does is in step.py, what is written where in checkpoint.py, what it looks like in figures.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganserve.latents import latents_from_seed
from trainer import figures
from trainer.checkpoint import CheckpointMetadata, RunFolder
from trainer.config import TrainConfig
from trainer.data import ImageData, batch_indices, to_unit_range
from trainer.errors import TrainingDivergedError, UserError
from trainer.metrics.sliced_wasserstein import sliced_wasserstein_distance
from trainer.objectives import OBJECTIVES
from trainer.progress import Progress
from trainer.step import StepResult, TrainingState, new_state, train_step

GRID_IMAGES = 64
_SAMPLE_CHUNK = 128


@dataclass(frozen=True)
class Summary:
    """How a training ended."""

    run: Path
    step: int
    total_steps: int
    images_per_s: float
    train_seconds: float
    score: float | None  # sliced Wasserstein distance of the last evaluation, mean over levels
    best_score: float | None
    interrupted: bool


@dataclass
class _Session:
    """One process's work on a run."""

    config: TrainConfig
    run: RunFolder
    data: ImageData
    state: TrainingState
    progress: Progress
    train_seconds: float = 0.0
    best_score: float | None = None
    score: float | None = None
    pending: list[tuple[int, StepResult]] = field(default_factory=list)  # measured, not yet read from the device

    @property
    def steps_per_epoch(self) -> int:
        return len(self.data) // self.config.batch_size

    @property
    def total_steps(self) -> int:
        return self.config.steps or (self.config.epochs or 0) * self.steps_per_epoch


def check_data(config: TrainConfig, data: ImageData) -> None:
    """Raises UserError if the data set cannot fill one batch."""
    if config.batch_size > len(data):
        raise UserError(
            f"--batch-size {config.batch_size}: {data.name} has only {len(data)} images; give at most {len(data)}"
        )


def choose_device(name: str) -> torch.device:
    """The torch device that --device names.

    Raises:
        UserError: `cuda` was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is usable here; give --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def train(
    config: TrainConfig,
    run: RunFolder,
    data: ImageData,
    progress: Progress,
    *,
    resume: bool = False,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Summary:
    """Trains from scratch, or on from the run's last checkpoint, to the config's end or until `stop_requested`.

    Raises:
        TrainingDivergedError: a loss or weight became NaN or infinite; the last good checkpoint is kept.
        RunFolderError: the checkpoint cannot be resumed from.
    """
    session = _start(config, run, data, progress, resume=resume)
    images = data.images.to(session.state.device)
    state, total = session.state, session.total_steps
    interrupted = False
    with progress.bar() as bar:
        task = bar.add_task(config.model, total=total, completed=state.step)
        while state.step < total and not interrupted:
            epoch, position = divmod(state.step, session.steps_per_epoch)
            order = batch_indices(config.seed, epoch, len(data))
            for batch in torch.split(order, config.batch_size)[position : session.steps_per_epoch]:
                started = time.perf_counter()
                reals = to_unit_range(images[batch.to(images.device)])
                session.pending.append((state.step + 1, train_step(state, config, reals)))
                session.train_seconds += time.perf_counter() - started
                bar.update(task, completed=state.step)
                interrupted = stop_requested()
                if state.step % config.log_every_steps == 0 or state.step == total:
                    _log(session)
                if interrupted or state.step == total:
                    break
                if state.step % config.checkpoint_every_steps == 0 and state.step % session.steps_per_epoch:
                    _checkpoint(session)
            _end_epoch(session, final=interrupted or state.step == total)
    draw_figures(session.run, config, data, state)
    return Summary(
        run.path,
        state.step,
        total,
        state.step * config.batch_size / max(session.train_seconds, 1e-9),
        session.train_seconds,
        session.score,
        session.best_score,
        interrupted and state.step < total,
    )


def _start(config: TrainConfig, run: RunFolder, data: ImageData, progress: Progress, *, resume: bool) -> _Session:
    check_data(config, data)
    device = choose_device(config.device)
    torch.set_flush_denormal(True)  # CPUs are many times slower on the vanishing gradients of a saturated discriminator
    torch.manual_seed(config.seed)
    session = _Session(config, run, data, new_state(config, device), progress)
    if resume:
        metadata = run.load_checkpoint(session.state)
        run.rewind_metrics(metadata.step)
        session.train_seconds = metadata.train_seconds
        session.best_score = metadata.best_score
        session.score = metadata.score
    return session


def _log(session: _Session) -> None:
    """Reads the pending measurements, appends them to metrics.jsonl, and prints the newest.

    Raises:
        TrainingDivergedError: one of them is not finite.
    """
    if not session.pending:
        return
    config, state = session.config, session.state
    images_per_s = state.step * config.batch_size / max(session.train_seconds, 1e-9)
    rows = [_row(session, step, result, images_per_s) for step, result in session.pending]
    session.pending.clear()
    for row in rows:
        if not all(math.isfinite(value) for value in row.values() if isinstance(value, float)):
            raise TrainingDivergedError(_diverged(session, row["step"], "a loss"))
    session.run.append_metrics(rows)
    newest = rows[-1]
    g_loss = next((row["g_loss"] for row in reversed(rows) if row["g_loss"] is not None), None)
    left_s = (session.total_steps - state.step) * session.train_seconds / state.step
    session.progress.say(
        f"[epoch {newest['epoch']}][step {state.step}/{session.total_steps}]"
        f"  D loss {newest['d_loss']:.4f}  G loss {'-' if g_loss is None else f'{g_loss:.4f}'}"
        f"  D(x) {newest['d_real']:.4f}  D(G(z)) {newest['d_fake']:.4f}"
        f"  {images_per_s:.0f} images/s  {_clock(left_s)} left"
    )


def _row(session: _Session, step: int, result: StepResult, images_per_s: float) -> dict[str, Any]:
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
        "images_per_s": round(images_per_s, 1),
    }


def _end_epoch(session: _Session, *, final: bool) -> None:
    _log(session)
    state, config = session.state, session.config
    grid = figures.grid_image(sample(state, _fixed_latents(config)))
    figures.save_image(grid, session.run.samples / f"step-{state.step:08d}.png")
    epochs = math.ceil(session.total_steps / session.steps_per_epoch)
    interval = math.ceil(epochs / config.max_evaluations)
    epoch = math.ceil(state.step / session.steps_per_epoch)
    best = (final or epoch % interval == 0) and _evaluate(session)
    _checkpoint(session, best=best)


def _evaluate(session: _Session) -> bool:
    """Scores the averaged generator against real images; returns whether it is the best so far."""
    config, state = session.config, session.state
    count = min(config.evaluation_images, len(session.data))
    chosen = batch_indices(config.seed, 0, len(session.data))[:count]
    latents = torch.from_numpy(latents_from_seed(config.seed + 1, count, config.network.latent_dim))
    fakes = sample(state, latents)
    levels = sliced_wasserstein_distance(to_unit_range(session.data.images[chosen]).to(state.device), fakes)
    session.score = sum(levels) / len(levels)
    row = {
        "kind": "evaluation",
        "step": state.step,
        "sliced_wasserstein_distance": session.score,
        "levels": levels,
        "real_images": count,
        "fake_images": count,
        "split": "train",
    }
    session.run.append_metrics([row])
    best = math.isfinite(session.score) and (session.best_score is None or session.score < session.best_score)
    if best:
        session.best_score = session.score
    session.progress.say(
        f"[step {state.step}]  sliced Wasserstein distance {session.score:.1f}{' (best so far)' if best else ''}"
    )
    return best


def _checkpoint(session: _Session, *, best: bool = False) -> None:
    _log(session)
    state = session.state
    tensors = [*state.generator.parameters(), *state.discriminator.parameters()]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise TrainingDivergedError(_diverged(session, state.step, "a weight"))
    metadata = CheckpointMetadata(
        step=state.step,
        generator_steps=state.generator_steps,
        critic_steps_since_generator=state.critic_steps_since_generator,
        images_seen=state.step * session.config.batch_size,
        train_seconds=session.train_seconds,
        best_score=session.best_score,
        score=session.score,
    )
    session.run.save_checkpoint(state, metadata, best=best)


def sample(state: TrainingState, latents: Tensor) -> Tensor:
    """Images of the averaged generator, (N, C, H, W) in [-1, 1]."""
    with torch.inference_mode():
        return torch.cat([state.ema_generator(chunk) for chunk in torch.split(latents.to(state.device), _SAMPLE_CHUNK)])


def draw_figures(run: RunFolder, config: TrainConfig, data: ImageData, state: TrainingState) -> None:
    """Draws everything under figures/ from what the run has written so far."""
    rows = [row for row in run.read_metrics() if row["kind"] == "step"]
    figures.save_loss_curve(rows, run.figures / "loss_curve.png")
    probabilities = OBJECTIVES[config.objective].scores_are_probabilities
    figures.save_confidence_curve(rows, run.figures / "confidence_curve.png", probabilities=probabilities)
    fakes = sample(state, _fixed_latents(config))
    reals = to_unit_range(data.images[batch_indices(config.seed, 0, len(data))[:GRID_IMAGES]])
    figures.save_real_beside_fake(reals, fakes, run.figures / "real_beside_fake.png")
    figures.save_progress_gif(sorted(run.samples.glob("step-*.png")), run.figures / "progress.gif")


def _fixed_latents(config: TrainConfig) -> Tensor:
    return torch.from_numpy(latents_from_seed(config.seed, GRID_IMAGES, config.network.latent_dim))


def _diverged(session: _Session, step: int, what: str) -> str:
    path = session.run.checkpoint_path("last")
    kept = f"the last good checkpoint is {path}" if path.is_file() else "there is no checkpoint yet"
    return f"step {step}: {what} is NaN or infinite; {kept}. Try a smaller --lr, or another --seed"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
