"""The training loop: when to step, log, save and stop; the same for every kind of training.

The steps are in gan_step.py and cyclegan_step.py; session.py writes the output.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import torch

from trainer.config import AnyConfig
from trainer.parallel import any_of_all, choose_device, is_first, together
from trainer.progress import Progress
from trainer.runs.initial_weights import load_initial_weights
from trainer.runs.run_folder import RunFolder
from trainer.runs.run_log import RunLog
from trainer.runs.tensorboard_log import TensorBoardLog
from trainer.training.base import Training
from trainer.training.compiled import compiler_faults
from trainer.training.determinism import deterministic
from trainer.training.kinds import Data, about_data, check_can_train, new_training
from trainer.training.session import Session, Summary


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
    """Trains until the config's length, or until `stop_requested`, or until the run is given up (--on-collapse stop).

    Args:
        config: the resolved settings.
        run: where everything is written.
        data: at the size of the config.
        progress: for the user.
        resume: continue from the run's last checkpoint.
        stop_requested: polled after every step.
        logs: receive a copy of the output; the caller closes them. TensorBoard's log is always written.
        after_step: called after every step, and again for steps that a resumed run repeats; must not change any state.

    Raises:
        TrainingDivergedError: a loss or weight became NaN or infinite; the last good checkpoint is kept.
        RunFolderError: the run cannot be resumed from its checkpoint, or another trainer writes to it.
        UserError: the data or the device does not fit the config.
    """
    with together():
        device = choose_device(config.device)
        check_can_train(config, data, device)
    with deterministic(device, wanted=config.deterministic), ExitStack() as stack:
        with together():
            if is_first():
                stack.enter_context(held(run, progress))
        torch.manual_seed(config.seed)
        if config.compile_networks:
            stack.enter_context(compiler_faults(stop_requested))
        with together():
            training = new_training(config, data, device)
            session = Session(config, run, training, progress)
        step = session.restore() if resume else 0
        if config.init_from and step == 0:
            _load_initial_weights(session)
        if is_first():
            run.write_data(about_data(config, data))
            session.logs = (stack.enter_context(closing(TensorBoardLog(run.tensorboard, step, config))), *logs)

        if not session.finished:
            with together():
                if is_first():  # it alone evaluates
                    training.prepare_evaluations(progress)
        interrupted, state = False, session.state
        session.begin()
        with progress.bar(clock=False) as bar:
            done, total = session.length
            task = bar.add_task(f"step {session.step_text}", total=total, completed=done)
            while not (session.finished or interrupted or session.given_up):
                epoch, started = session.epoch, time.perf_counter()
                measured = training.train_step(done / total)
                session.train_seconds += time.perf_counter() - started
                session.pending.append((state.step, state.images_seen, measured))
                done, _ = session.length
                bar.update(task, completed=done, description=f"step {session.step_text}")
                after_step(training)

                interrupted = any_of_all(stop_requested())
                epoch_ended = session.epoch > epoch
                planned = session.save_is_due(epoch_ended=epoch_ended)
                scheduled = planned or session.finished
                if state.step % config.log_every_steps == 0 or session.finished or interrupted:
                    session.log_steps()
                if scheduled or interrupted or session.given_up:
                    session.log_steps(tell=False)
                    with together():  # the other processes wait for the first
                        if is_first():
                            session.save(planned=planned, scheduled=scheduled, epoch_ended=epoch_ended)
                    session.given_up = any_of_all(session.given_up)
        return session.finish(interrupted=interrupted)


def _load_initial_weights(session: Session) -> None:
    config = session.config
    with together():
        source = load_initial_weights(config, session.state)
    session.progress.say(f"weights: {config.init_from} ({config.init_checkpoint}, step {source.step})")


@contextmanager
def held(run: RunFolder, progress: Progress) -> Iterator[None]:
    """Keeps other trainers out of a run folder; a warning says so if its file system cannot.

    Raises:
        RunFolderError: another trainer writes to it.
    """
    with run.locked() as locked:
        if not locked:
            progress.say(
                f"warning: the file system of {run.path} has no locks, so nothing stops a second trainer from writing"
                " to this run; start only one"
            )
        yield
