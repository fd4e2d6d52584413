"""The training loop: when to step, log, sample, evaluate, save and stop.

What a step does is in step.py, what is written where in checkpoint.py, what it looks like in figures.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ganserve.latents import latents_from_seed
from trainer import figures
from trainer.checkpoint import CheckpointMetadata, RunFolder
from trainer.config import TrainConfig
from trainer.data import ImageData, batch_indices, sha256_of, to_unit_range
from trainer.errors import TrainingDivergedError, UserError
from trainer.metrics.sliced_wasserstein import sliced_wasserstein_distance
from trainer.objectives import OBJECTIVES
from trainer.progress import Progress
from trainer.session import Session, diverged, log_steps
from trainer.step import TrainingState, new_state, train_step

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
    images = _on_device(data.images, session.state.device)
    state, total = session.state, session.total_steps
    interrupted = False
    with progress.bar() as bar:
        task = bar.add_task(config.model, total=total, completed=state.step)
        while state.step < total and not interrupted:
            epoch, position = divmod(state.step, session.steps_per_epoch)
            order = batch_indices(config.seed, epoch, len(data))
            for batch in torch.split(order, config.batch_size)[position : session.steps_per_epoch]:
                started = time.perf_counter()
                reals = to_unit_range(images[batch.to(images.device)].to(state.device))
                session.pending.append((state.step + 1, train_step(state, config, reals)))
                session.train_seconds += time.perf_counter() - started
                bar.update(task, completed=state.step)
                interrupted = stop_requested()
                if state.step % config.log_every_steps == 0 or state.step == total:
                    log_steps(session)
                if interrupted or state.step == total:
                    break
                if state.step % config.checkpoint_every_steps == 0 and state.step % session.steps_per_epoch:
                    _checkpoint(session)
            _end_epoch(session)
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


def _start(config: TrainConfig, run: RunFolder, data: ImageData, progress: Progress, *, resume: bool) -> Session:
    check_data(config, data)
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    session = Session(config, run, data, new_state(config, device), progress, sha256_of(data))
    if resume:
        _restore(session)
    return session


def _restore(session: Session) -> None:
    """Goes back to the last checkpoint, or to the very beginning if the run was killed before its first."""
    run, data = session.run, session.data
    step = 0
    if run.checkpoint_path("last").is_file():
        metadata = run.load_checkpoint(session.state)
        step = metadata.step
        if metadata.data_sha256 != session.data_sha256:
            raise UserError(
                f"--resume: {data.name} has other images than this run began with"
                f" ({len(data)} now, {metadata.data_images} then); bring those back, or start a new run"
            )
        if step > session.total_steps:
            raise UserError(f"--steps or --epochs: this run is at step {step} already; give at least as many")
        session.train_seconds = metadata.train_seconds
        session.best_score = metadata.best_score
    run.clean_up()
    run.write_config(session.config)
    run.rewind_metrics(step)


def _on_device(images: Tensor, device: torch.device) -> Tensor:
    """The whole data set on the device if it fits there; else it stays, and goes over batch by batch."""
    try:
        return images.to(device)
    except torch.OutOfMemoryError:
        return images


def _end_epoch(session: Session) -> None:
    """Samples, evaluates if it is time, and saves; also after an interruption in mid-epoch.

    When to evaluate depends on the step alone, so that an interruption changes nothing about which checkpoint is best.
    """
    log_steps(session)
    state, config = session.state, session.config
    grid = figures.grid_image(sample(state, _fixed_latents(config)))
    figures.save_image(grid, session.run.samples / f"step-{state.step:08d}.png")
    interval = config.evaluate_every_steps
    epoch_ended = state.step % session.steps_per_epoch == 0
    due = epoch_ended and state.step // interval > (state.step - session.steps_per_epoch) // interval
    best = (due or state.step == session.total_steps) and _evaluate(session)
    _checkpoint(session, best=best)


def _evaluate(session: Session) -> bool:
    """Scores the averaged generator against real images; returns whether it is the best so far."""
    config, state = session.config, session.state
    count = min(config.evaluation_images, len(session.data))
    chosen = batch_indices(config.seed, 0, len(session.data))[:count]
    latents = torch.from_numpy(latents_from_seed(config.seed + 1, count, config.network.latent_dim))
    fakes = sample(state, latents)
    levels = sliced_wasserstein_distance(to_unit_range(session.data.images[chosen]).to(state.device), fakes)
    session.score = sum(levels) / len(levels)
    session.scored_step = state.step
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


def _checkpoint(session: Session, *, best: bool = False) -> None:
    log_steps(session)
    state = session.state
    networks = (state.generator, state.discriminator, state.ema_generator)
    tensors = [tensor for network in networks for tensor in network.state_dict().values()]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise TrainingDivergedError(diverged(session, state.step, "a weight"))
    metadata = CheckpointMetadata(
        step=state.step,
        generator_steps=state.generator_steps,
        critic_steps_since_generator=state.critic_steps_since_generator,
        images_seen=state.step * session.config.batch_size,
        train_seconds=session.train_seconds,
        best_score=session.best_score,
        score=session.score if session.scored_step == state.step else None,
        data_images=len(session.data),
        data_sha256=session.data_sha256,
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
