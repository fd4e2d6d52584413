"""The training loop: when to step, log, sample, evaluate, save and stop; the same for every kind of training.

What a step does is in step.py and cycle_step.py, what is written where in checkpoint.py, what it looks like in
plots.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import torch

from trainer.config import AnyConfig
from trainer.errors import TrainingDivergedError, UserError
from trainer.parallel import any_of_all, choose_device, is_first, together
from trainer.progress import Progress
from trainer.runs import plots
from trainer.runs.collapse import Notice
from trainer.runs.run_folder import CheckpointMetadata, RunFolder
from trainer.runs.run_log import RunLog, curves_of_evaluation
from trainer.runs.tensorboard_log import TensorBoardLog
from trainer.training.base import Training
from trainer.training.compiled import compiler_faults
from trainer.training.determinism import deterministic
from trainer.training.kinds import Data, check_can_train, new_training
from trainer.training.session import Session, diverged, log_steps, record


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
    given_up: bool  # by --on-collapse stop
    notices: Sequence[Notice]  # all that was ever said of this run


def train(
    config: AnyConfig,
    run: RunFolder,
    data: Data,
    progress: Progress,
    *,
    resume: bool = False,
    stop_requested: Callable[[], bool] = lambda: False,
    logs: Sequence[RunLog] = (),
    after_step: Callable[[Training], None] = lambda _training: None,
) -> Summary:
    """Trains from scratch, or on from the run's last checkpoint, to the config's end or until `stop_requested`.

    A training that is found to lead nowhere ends earlier too, if the config says so. TensorBoard's log is always
    written; `logs` are told the same, and are the caller's to close. `after_step` is called after every step, which
    after a kill may be repeated; it must change nothing.

    Raises:
        TrainingDivergedError: a loss or weight became NaN or infinite; the last good checkpoint is kept.
        RunFolderError: the checkpoint cannot be resumed from.
    """
    with together():
        device = choose_device(config.device)
        check_can_train(config, data, device)
    with deterministic(device, wanted=config.deterministic), ExitStack() as stack:
        torch.manual_seed(config.seed)
        if config.compile_networks:
            stack.enter_context(compiler_faults(stop_requested))
        with together():
            session = Session(config, run, new_training(config, data, device), progress)
        step = _restore(session) if resume else 0
        if is_first():
            board = stack.enter_context(closing(TensorBoardLog(run.tensorboard, step)))
            session.logs = (board, *logs)
        interrupted = _take_steps(session, stop_requested, after_step)
        return _finish(session, interrupted=interrupted)


def _take_steps(session: Session, stop_requested: Callable[[], bool], after_step: Callable[[Training], None]) -> bool:
    """Trains to the end; returns whether it was asked to stop before."""
    config, training, state, progress = session.config, session.training, session.training.state, session.progress
    interrupted = False
    with progress.bar() as bar:
        done, total = session.length
        task = bar.add_task(config.model, total=total, completed=done)
        while not (session.finished or interrupted or session.given_up):
            epoch = session.epoch
            started = time.perf_counter()
            measured = training.train_step(done / total)
            session.train_seconds += time.perf_counter() - started
            session.pending.append((state.step, state.images_seen, measured))
            done, _ = session.length
            bar.update(task, completed=done)
            after_step(training)
            interrupted = any_of_all(stop_requested())
            if state.step % config.log_every_steps == 0:
                log_steps(session)
            epoch_ended = session.epoch > epoch
            due = state.step % config.checkpoint_every_steps == 0
            scheduled = epoch_ended or due or session.finished or training.about_to_grow
            if scheduled or interrupted or session.given_up:
                log_steps(session)
                with together():  # the others wait for the first
                    if is_first():
                        _sample_and_save(session, epoch_ended=epoch_ended, scheduled=scheduled)
                session.given_up = any_of_all(session.given_up)
    return interrupted


def _finish(session: Session, *, interrupted: bool) -> Summary:
    run, training, state = session.run, session.training, session.training.state
    with together():
        if is_first() and session.finished and state.step and not run.checkpoint_path("best").is_file():
            # It was interrupted at the very step that is the last one now.
            _sample_and_save(session, epoch_ended=False, scheduled=True)
        if is_first():
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
        session.given_up and not session.finished,
        tuple(session.notices),
    )


def _restore(session: Session) -> int:
    """Goes back to the last checkpoint, or to the very beginning if the run was killed before its first.

    Returns the step that it is at.
    """
    with together():
        step = _load(session)
    run = session.run
    with together():
        if is_first():
            run.clean_up()
            if session.training.depends_on_length and run.read_config() != session.config:
                session.progress.say(
                    "the learning rate falls over the new length, so this is not a longer copy of the old run"
                )
            run.write_config(session.config)
            run.metrics.rewind(step)
    with together():
        for row in run.metrics.read():
            session.notices += session.watch.see(row)
    return step


def _load(session: Session) -> int:
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
    return step


def _sample_and_save(session: Session, *, epoch_ended: bool, scheduled: bool) -> None:
    """Samples, evaluates if it is time, and saves; at the end of an epoch, and now and then within.

    When to evaluate depends on the steps alone, so an interruption changes nothing about which checkpoint is best; a
    run that is extended past its end has been evaluated there once more. For the same reason the watch sees the samples
    of scheduled times alone.
    """
    log_steps(session)
    step, training, config = session.step, session.training, session.config
    grid = training.sample()
    plots.save_image(grid, session.run.samples / f"step-{step:08d}.png")
    for log in session.logs:
        log.image(step, "samples", grid)
    if scheduled:
        share = training.sample_spread()
        record(session, [{"kind": "samples", "step": step, "images": session.images_seen, "sample_spread": share}])
    interval = config.evaluate_every_steps
    due = epoch_ended and step // interval > session.epoch_step // interval
    if epoch_ended:
        session.epoch_step = step
    best = (due or session.finished or training.about_to_grow) and _evaluate(session)
    keep_epochs = training.keep_epochs
    kept = session.epoch if epoch_ended and keep_epochs is not None and session.epoch % keep_epochs == 0 else None
    _checkpoint(session, best=best, kept_epoch=kept)
    for log in session.logs:
        log.flush()


def _evaluate(session: Session) -> bool:
    """Scores the networks; returns whether they are the best so far.

    Those that make larger images always are, and where nothing can be measured the newest are.
    """
    training = session.training
    session.evaluation = evaluation = training.evaluate()
    session.scored_step = session.step
    session.run.metrics.append(
        [{"kind": "evaluation", "step": session.step, **evaluation.metrics, **evaluation.protocol}]
    )
    for log in session.logs:
        log.scalars(session.step, curves_of_evaluation(evaluation.metrics))
    score, best_score = evaluation.score, session.best_score
    larger = training.output_size > session.best_size
    best = larger or score is None or best_score is None
    if score is not None and best_score is not None:
        best = best or (score > best_score if evaluation.larger_is_better else score < best_score)
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
        metrics=dict(session.evaluation.metrics) if session.evaluation is not None and scored else {},
        best_score=session.best_score,
        best_size=session.best_size,
        epoch_step=session.epoch_step,
        data_images=training.data_images,
        data_sha256=training.data_sha256,
    )
    if kept_epoch is not None:
        session.run.keep_networks(state, metadata, kept_epoch)
    session.run.save_checkpoint(state, metadata, best=best)  # last: a kill before it repeats all that went before
