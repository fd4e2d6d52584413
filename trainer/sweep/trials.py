"""Runs the trials of a sweep through Optuna: each is an ordinary run, resumed if it was begun, and not run twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from trainer.config import AnyConfig, override
from trainer.errors import TrainingDivergedError, UserError
from trainer.parallel import choose_device
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.sweep.folder import SweepFolder, ended
from trainer.sweep.grid import Cell, resolve
from trainer.sweep.spec import Spec
from trainer.training.kinds import Data, check_can_train, load_with_config, with_absolute_paths
from trainer.training.loop import train
from trainer.training.session import Summary

FINISHED, DIVERGED, GIVEN_UP = "finished", "diverged", "given up"


class SharedData:
    """The data sets of a sweep: each decoded once for a size, and shared by all trials."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._decoded: dict[tuple[object, ...], Data] = {}

    def of(self, config: AnyConfig) -> tuple[AnyConfig, Data]:
        """The data of a config, and the config with their number of channels and absolute paths.

        Raises:
            UserError: the data cannot be had, or cannot fill one batch.
        """
        config = with_absolute_paths(config)
        size, lost = config.network.image_size, config.max_corrupt_images
        key = (type(config), config.dataset, config.data_root, size, lost)
        if key not in self._decoded:
            self._progress.say(f"reading {config.dataset} at {size}x{size}")
            self._decoded[key] = load_with_config(config, self._progress)[1]
        data = self._decoded[key]
        config = override(config, {"network.channels": data.channels})
        check_can_train(config, data, choose_device(config.device))
        return config, data


class InterruptedSweepError(Exception):
    """The user has stopped a trial, which is saved."""


@dataclass(frozen=True)
class Trials:
    """What the trials of a sweep need."""

    folder: SweepFolder
    spec: Spec
    cells: Sequence[Cell]  # all of the spec, in order
    data: SharedData
    progress: Progress
    stop: Callable[[], bool]

    def run(self, wanted: Sequence[Cell]) -> bool:
        """Runs all trials of some cells that have not ended yet, the first seed of every cell first.

        Returns whether all have ended; they have not if the user has stopped it.

        Raises:
            UserError: a run folder in the sweep is not what the sweep has made.
        """
        study = self.folder.study("maximize" if self._larger_is_better else "minimize")
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)  # a killed process left it; its run goes on in a new one
        queue = [(cell, seed) for seed in self.spec.seeds for cell in wanted]
        for number, (cell, seed) in enumerate(queue, 1):
            if (cell.name, seed) in ended(study):
                continue
            if self.stop():
                return False
            self.progress.say(f"trial {number} of {len(queue)}: {cell.name}, seed {seed}")
            try:
                while (cell.name, seed) not in ended(study):
                    if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                        study.enqueue_trial({"cell": cell.name, "seed": seed})
                    study.optimize(self._objective, n_trials=1)
            except InterruptedSweepError:
                return False
        return True

    @property
    def _larger_is_better(self) -> bool:
        config = self.cells[0].config
        return config.METRICS[config.score_metric].better == "larger"

    def _objective(self, trial: optuna.Trial) -> float:
        """Optuna's view of a trial: the best score of the run; infinite if nothing can be measured."""
        name = trial.suggest_categorical("cell", [cell.name for cell in self.cells])
        seed = trial.suggest_int("seed", 0, 2**53)
        cell = next(each for each in self.cells if each.name == name)
        try:
            run, summary = self._train(cell, seed)
        except TrainingDivergedError as error:
            trial.set_user_attr("outcome", DIVERGED)
            trial.set_user_attr("text", str(error))
            self.progress.say(f"{cell.name}, seed {seed}: {error}; the sweep goes on")
            raise optuna.TrialPruned(str(error)) from error
        if summary.interrupted:
            raise InterruptedSweepError
        if summary.given_up:
            text = summary.notices[-1].text if summary.notices else "it led nowhere"
            trial.set_user_attr("outcome", GIVEN_UP)
            trial.set_user_attr("text", text)
            self.progress.say(f"{cell.name}, seed {seed}: {text}; the sweep goes on")
            raise optuna.TrialPruned(text)
        trial.set_user_attr("outcome", FINISHED)
        trial.set_user_attr("run", str(run.path.relative_to(self.folder.path)))
        score = summary.best_score
        if score is not None and not math.isnan(score):
            return score
        return -math.inf if self._larger_is_better else math.inf

    def _train(self, cell: Cell, seed: int) -> tuple[RunFolder, Summary]:
        config, data = self.data.of(resolve(self.spec, cell.settings, seed))
        run = self.folder.run_of(cell, seed)
        if run is None:
            run = RunFolder.create(self.folder.trial_folder(cell, seed), config)
            return run, train(config, run, data, self.progress, stop_requested=self.stop)
        begun = run.read_config()
        if type(begun) is not type(config) or _comparable(begun) != _comparable(config):
            raise UserError(f"{run.path}: is not the run that this sweep began; move it away, or give another --out")
        config = override(config, {"precision": begun.precision})
        return run, train(config, run, data, self.progress, resume=True, stop_requested=self.stop)


def outcome_of(trial: FrozenTrial | None) -> tuple[str, str]:
    """How a trial has ended, and why if it failed; for people."""
    if trial is None:
        return "not finished", ""
    outcome, text = trial.user_attrs.get("outcome"), trial.user_attrs.get("text", "")
    return (outcome if isinstance(outcome, str) else "ended"), (text if isinstance(text, str) else "")


def _comparable(config: AnyConfig) -> AnyConfig:
    """The config without what may change while a sweep goes on: where it is computed, and where its data lie."""
    return override(config, {"device": "auto", "precision": "fp32", "data_root": ""})
