"""The training loop: when to step, log, sample, evaluate, save and stop; the same for every kind of training.

What a step does is in step.py and cycle_step.py, what is written where in checkpoint.py, what it looks like in
figures.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from trainer import figures
from trainer.checkpoint import CheckpointMetadata, RunFolder
from trainer.config import AnyConfig
from trainer.errors import TrainingDivergedError, UserError
from trainer.kinds import Data, check_data, new_training
from trainer.progress import Progress
from trainer.session import Session, diverged, log_steps


@dataclass(frozen=True)
class Summary:
    """How a training ended."""

    run: Path
    step: int
    images_seen: int
    images_per_s: float
    train_seconds: float
    score_name: str
    score_explanation: str
    score: float | None  # of the last evaluation
    best_score: float | None
    output_size: int  # pixels; of the images that are made now
    interrupted: bool


def choose_device(name: str) -> torch.device:
    """The torch device that --device names.

    Raises:
        UserError: `cuda` was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is usable here; give --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def train(
    config: AnyConfig,
    run: RunFolder,
    data: Data,
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
    check_data(config, data)
    torch.manual_seed(config.seed)
    session = Session(config, run, new_training(config, data, choose_device(config.device)), progress)
    if resume:
        _restore(session)
    training, state = session.training, session.training.state
    interrupted = False
    with progress.bar() as bar:
        done, total = session.length
        task = bar.add_task(config.model, total=total, completed=done)
        while not session.finished and not interrupted:
            epoch = session.epoch
            started = time.perf_counter()
            measured = training.train_step(done / total)
            session.train_seconds += time.perf_counter() - started
            session.pending.append((state.step, state.images_seen, measured))
            done, _ = session.length
            bar.update(task, completed=done)
            interrupted = stop_requested()
            if state.step % config.log_every_steps == 0:
                log_steps(session)
            epoch_ended = session.epoch > epoch
            due = state.step % config.checkpoint_every_steps == 0
            if epoch_ended or due or session.finished or interrupted or training.about_to_grow:
                _sample_and_save(session, epoch_ended=epoch_ended)
    if session.finished and state.step and not run.checkpoint_path("best").is_file():
        _sample_and_save(session, epoch_ended=False)  # it was interrupted at the very step that is the last one now
    training.draw_figures(run)
    return Summary(
        run.path,
        state.step,
        state.images_seen,
        session.images_per_s,
        session.train_seconds,
        training.score_name,
        training.score_explanation,
        session.evaluation.score if session.evaluation is not None else None,
        session.best_score,
        training.output_size,
        interrupted and not session.finished,
    )


def _restore(session: Session) -> None:
    """Goes back to the last checkpoint, or to the very beginning if the run was killed before its first."""
    run, training = session.run, session.training
    step = 0
    if run.checkpoint_path("last").is_file():
        metadata = run.read_metadata()
        if metadata.data_sha256 != training.data_sha256:
            raise UserError(
                f"--resume: {training.data_name} has other images than this run began with"
                f" ({training.data_images} now, {metadata.data_images} then); bring those back, or start a new run"
            )
        run.load_checkpoint(training.state)
        step = metadata.step
        done, total = session.length
        if done > total or (session.config.steps is None and metadata.images_seen - total >= session.config.batch_size):
            raise UserError(
                f"--epochs, --steps or --images: this run is at step {step}, image {metadata.images_seen} already;"
                " give at least as many"
            )
        session.train_seconds = metadata.train_seconds
        session.best_score, session.best_size = metadata.best_score, metadata.best_size
        session.epoch_step = metadata.epoch_step
        training.restored(metadata.output_size, metadata.fade)
    run.clean_up()
    if training.depends_on_length and run.read_config() != session.config:
        session.progress.say("the learning rate falls over the new length, so this is not a longer copy of the old run")
    run.write_config(session.config)
    run.metrics.rewind(step)


def _sample_and_save(session: Session, *, epoch_ended: bool) -> None:
    """Samples, evaluates if it is time, and saves; at the end of an epoch, and now and then within.

    When to evaluate depends on the steps alone, so an interruption changes nothing about which checkpoint is best; a
    run that is extended past its end has been evaluated there once more.
    """
    log_steps(session)
    step, training, config = session.step, session.training, session.config
    figures.save_image(training.sample(), session.run.samples / f"step-{step:08d}.png")
    interval = config.evaluate_every_steps
    due = epoch_ended and step // interval > session.epoch_step // interval
    if epoch_ended:
        session.epoch_step = step
    best = (due or session.finished or training.about_to_grow) and _evaluate(session)
    keep_epochs = training.keep_epochs
    kept = session.epoch if epoch_ended and keep_epochs is not None and session.epoch % keep_epochs == 0 else None
    _checkpoint(session, best=best, kept_epoch=kept)


def _evaluate(session: Session) -> bool:
    """Scores the networks; returns whether they are the best so far.

    Those that make larger images always are, and where nothing can be measured the newest are.
    """
    training = session.training
    session.evaluation = evaluation = training.evaluate()
    session.scored_step = session.step
    session.run.metrics.append(
        [{"kind": "evaluation", "step": session.step, **evaluation.figures, **evaluation.protocol}]
    )
    score, best_score = evaluation.score, session.best_score
    larger = training.output_size > session.best_size
    best = larger or score is None or best_score is None or score < best_score
    if best:
        session.best_score, session.best_size = evaluation.score, training.output_size
    session.progress.say(f"[step {session.step}]  {evaluation.text}{' (best so far)' if best else ''}")
    return best


def _checkpoint(session: Session, *, best: bool, kept_epoch: int | None) -> None:
    log_steps(session)
    training, state = session.training, session.training.state
    tensors = [tensor for network in state.networks.values() for tensor in network.state_dict().values()]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise TrainingDivergedError(diverged(session, state.step, "a weight"))
    scored = session.evaluation is not None and session.scored_step == state.step
    metadata = CheckpointMetadata(
        step=state.step,
        images_seen=state.images_seen,
        counters=state.counters,
        train_seconds=session.train_seconds,
        output_size=training.output_size,
        fade=training.fade,
        figures=dict(session.evaluation.figures) if session.evaluation is not None and scored else {},
        best_score=session.best_score,
        best_size=session.best_size,
        epoch_step=session.epoch_step,
        data_images=training.data_images,
        data_sha256=training.data_sha256,
    )
    if kept_epoch is not None:
        session.run.keep_networks(state, metadata, kept_epoch)
    session.run.save_checkpoint(state, metadata, best=best)  # last: a kill before it repeats all that went before
