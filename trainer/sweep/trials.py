"""Runs the trials of a sweep. Each is an ordinary run: it resumes after a stop or a kill, and ends once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainer.config import AnyConfig, override
from trainer.data.datasets import is_own
from trainer.errors import TrainingDivergedError, UserError
from trainer.models import shown_size
from trainer.parallel import choose_device
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.sweep.folder import Ending, SweepFolder
from trainer.sweep.grid import Cell, resolve
from trainer.sweep.spec import Spec
from trainer.training.kinds import Data, check_can_train, load_with_config, sha256_of_data, with_absolute_paths
from trainer.training.loop import train
from trainer.training.session import Summary


class SharedData:
    """The data sets of a sweep. Each is decoded once per image size and shared by all trials."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._decoded: dict[tuple[object, ...], Data] = {}

    def of(self, config: AnyConfig) -> tuple[AnyConfig, Data]:
        """The data of a config, and the config with the data's channel count and absolute paths.

        Raises:
            UserError: the data is not available, or does not fill one batch.
        """
        config = with_absolute_paths(config)
        size, lost = config.network.size, config.max_corrupt_images
        key = (type(config), config.dataset, config.data_root, size, lost)
        if key not in self._decoded:
            self._progress.say(f"reading {config.dataset} at {shown_size(size)}")
            self._decoded[key] = load_with_config(config, self._progress)[1]
        data = self._decoded[key]
        config = override(config, {"network.channels": data.channels})
        check_can_train(config, data, choose_device(config.device))
        return config, data


@dataclass(frozen=True)
class Trials:
    """Runs the trials of a sweep, one after another."""

    folder: SweepFolder
    spec: Spec
    data: SharedData
    progress: Progress
    stop: Callable[[], bool]

    def run(self, wanted: Sequence[Cell]) -> bool:
        """Runs the trials of these cells that have not ended, the first seed of every cell first.

        Returns whether all have ended; False means that the user stopped the sweep.

        Raises:
            UserError: a run folder in the sweep belongs to another sweep, or began with other images.
        """
        self._check_data(wanted)
        queue = [(cell, seed) for seed in self.spec.seeds for cell in wanted]
        ended = self.folder.endings()
        for number, (cell, seed) in enumerate(queue, 1):
            if (cell.name, seed) in ended:
                continue
            if self.stop():
                return False
            self.progress.say(f"trial {number} of {len(queue)}: {cell.name}, seed {seed}")
            ending = self._run_trial(cell, seed)
            if ending is None:
                return False
            if ending.text:
                self.progress.say(f"{cell.name}, seed {seed}: {ending.text}; the sweep continues")
            self.folder.record(ending)
        return True

    def _check_data(self, wanted: Sequence[Cell]) -> None:
        """Raises UserError if data that has moved is not what the trials so far were trained on."""
        for cell, seed in itertools.product(wanted, self.spec.seeds):
            run = self.folder.run_of(cell, seed)
            if run is None or not run.checkpoint_path("last").is_file():
                continue
            config, data = self.data.of(resolve(self.spec, cell.settings, seed))
            moved = run.read_config().dataset != config.dataset
            if moved and run.read_metadata().data_sha256 != sha256_of_data(data):
                raise UserError(
                    f"--out {self.folder.path}: the images of {config.dataset} are not those that this sweep began"
                    " with; restore them, say where they are with --set dataset=PATH, or give another --out"
                )

    def _run_trial(self, cell: Cell, seed: int) -> Ending | None:
        """Trains one trial to its end; None if the user stopped it. A stopped trial is saved."""
        try:
            summary = self._train(cell, seed)
        except TrainingDivergedError as error:
            return Ending(cell=cell.name, seed=seed, outcome="diverged", text=str(error))
        if summary.interrupted:
            return None
        if summary.given_up:
            text = summary.notices[-1].text if summary.notices else "the run stopped making progress"
            return Ending(cell=cell.name, seed=seed, outcome="given up", text=text)
        return Ending(cell=cell.name, seed=seed, outcome="finished")

    def _train(self, cell: Cell, seed: int) -> Summary:
        config, data = self.data.of(resolve(self.spec, cell.settings, seed))
        run = self.folder.run_of(cell, seed)
        if run is None:
            run = RunFolder.create(self.folder.trial_folder(cell, seed), config)
            return train(config, run, data, self.progress, stop_requested=self.stop)
        begun = run.read_config()
        if type(begun) is not type(config) or _comparable(begun) != _comparable(config):
            raise UserError(f"{run.path}: not a run of this sweep; move it away, or give another --out")
        config = override(config, {"precision": begun.precision})
        return train(config, run, data, self.progress, resume=True, stop_requested=self.stop)


def _comparable(config: AnyConfig) -> AnyConfig:
    """The config without settings that may change while a sweep runs: the device and the location of the data."""
    moved = {"dataset": "folder:moved"} if is_own(config.dataset) else {}
    return override(config, {"device": "auto", "precision": "fp32", "data_root": "", **moved})
