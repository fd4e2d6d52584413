"""Which runs there are for a subject, and training those that are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.claims.snapshots import keep_looks, kept_steps, last_step
from trainer.config import GanConfig, override, with_precision
from trainer.data.datasets import ImageData
from trainer.parallel import choose_device
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder, RunFolderError
from trainer.training.loop import train
from trainer.training.session import Summary

OWN_FOLDER = "claims"  # under --runs; runs elsewhere are read and never written to

# Fields that say how long, where or how closely watched a training was, and not what was trained.
_IMMATERIAL = {
    "preset",
    "model",
    "data_root",
    "max_corrupt_images",
    "epochs",
    "steps",
    "images",
    "device",
    "precision",
    "deterministic",
    "log_every_steps",
    "checkpoint_every_steps",
    "evaluate_every_steps",
    "evaluation_images",
    "best_by",
    "on_collapse",
    "ema_decay",  # of the average, which is not looked at
}
_DEPTH = 4  # folders below --runs: a sweep's runs lie deeper than others


@dataclass(frozen=True)
class Found:
    """A run of a GAN that lies under --runs."""

    run: RunFolder
    config: GanConfig
    own: bool  # trained by this command, so that it may be gone on with

    def steps(self) -> set[int]:
        """The steps at which it can be looked at.

        Raises:
            RunFolderError: its checkpoint is damaged.
        """
        return kept_steps(self.run)

    def fits(self, wanted: GanConfig) -> bool:
        """Whether it is a training with these settings, of whatever length."""
        return identity(self.config) == identity(wanted)


def identity(config: GanConfig) -> dict[str, Any]:
    """What decides the course of a training step by step."""
    raw: dict[str, Any] = msgspec.to_builtins(config)
    del raw["network"]["channels"]  # the data set's
    return {name: value for name, value in raw.items() if name not in _IMMATERIAL}


def find_runs(folder: Path, progress: Progress) -> list[Found]:
    """All runs of GANs under a folder, in the order of their paths; what cannot be read is told and left out."""
    found = []
    patterns = ("*/" * depth + "config.json" for depth in range(1, _DEPTH + 1))
    for path in sorted(each.parent for pattern in patterns for each in folder.glob(pattern)):
        if path.name.startswith("."):
            continue  # one that was never finished being made
        try:
            run = RunFolder.open(path)
            config = run.read_config()
            if isinstance(config, GanConfig):
                own = path.parent == folder / OWN_FOLDER
                found.append(Found(run, config, own))
        except RunFolderError as error:
            progress.say(f"left out: {error}")
    return found


def finished_run(found: Sequence[Found], wanted: GanConfig, steps: Sequence[int]) -> Found | None:
    """A fitting run that was trained to the last of the steps and can be looked at at all of them, if there is one."""
    fitting = (each for each in found if each.fits(wanted) and each.steps() >= set(steps))
    return next((each for each in fitting if last_step(each.run) >= max(steps)), None)


def train_run(
    folder: Path,
    found: Sequence[Found],
    wanted: GanConfig,
    steps: Sequence[int],
    data: ImageData,
    progress: Progress,
    stop_requested: Callable[[], bool],
) -> tuple[Found, Summary]:
    """Trains to the last of the steps, and keeps the generator at each; a run that was cut short goes on.

    Raises:
        TrainingDivergedError: it cannot be trained to the end.
        RunFolderError: its checkpoint cannot be resumed from.
    """
    config = with_precision(override(wanted, {"steps": max(steps)}), "auto", choose_device(wanted.device))
    cut_short = next((run for run in found if run.own and run.fits(wanted) and _can_go_on(run, steps)), None)
    if cut_short is None:
        run = RunFolder.create(folder / OWN_FOLDER, config)
    else:
        run, config = cut_short.run, override(config, {"precision": cut_short.config.precision})
    summary = train(
        config,
        run,
        data,
        progress,
        resume=cut_short is not None,
        stop_requested=stop_requested,
        after_step=keep_looks(run, steps),
    )
    return Found(run, config, own=True), summary


def _can_go_on(found: Found, steps: Sequence[int]) -> bool:
    """Whether everything that is still to be looked at lies ahead of the last checkpoint."""
    kept, last = found.steps(), last_step(found.run)
    return all(step in kept or step > last for step in steps)
