"""Finds the runs of a subject, and trains those that are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.claims.snapshots import keep_snapshots, kept_steps, last_step
from trainer.config import AnyConfig, override, with_precision
from trainer.data.datasets import ImageData
from trainer.parallel import choose_device
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder, RunFolderError
from trainer.training.loop import train
from trainer.training.session import Summary

OWN_FOLDER = "claims"  # under --runs; other runs are only read

# Fields that do not change a step: the length, the device, the data folder and the monitoring of a run.
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
    "ema_decay",  # changes only the average, which claims ignore
}
_DEPTH = 4  # folders below --runs; a sweep's runs are the deepest


@dataclass(frozen=True)
class Found:
    """A run of a GAN under --runs."""

    run: RunFolder
    config: AnyConfig
    own: bool  # trained by this command, which may resume it

    def steps(self) -> set[int]:
        """The steps whose generator is available.

        Raises:
            RunFolderError: the checkpoint is damaged.
        """
        return kept_steps(self.run)

    def fits(self, wanted: AnyConfig) -> bool:
        """Whether the run has these settings, at any length."""
        return identity(self.config) == identity(wanted)


def identity(config: AnyConfig) -> dict[str, Any]:
    """The settings that decide every step of a run."""
    raw: dict[str, Any] = msgspec.to_builtins(config)
    del raw["network"]["channels"]  # follows from the data set
    return {name: value for name, value in raw.items() if name not in _IMMATERIAL}


def find_runs(folder: Path, progress: Progress) -> list[Found]:
    """All GAN runs under a folder, sorted by path. Unreadable runs are reported and skipped."""
    found = []
    patterns = ("*/" * depth + "config.json" for depth in range(1, _DEPTH + 1))
    for path in sorted(each.parent for pattern in patterns for each in folder.glob(pattern)):
        if path.name.startswith("."):
            continue  # a folder whose creation was interrupted
        try:
            run = RunFolder.open(path)
            config = run.read_config()
            if config.takes_latents:
                own = path.parent == folder / OWN_FOLDER
                found.append(Found(run, config, own))
        except RunFolderError as error:
            progress.say(f"skipped: {error}")
    return found


def finished_run(found: Sequence[Found], wanted: AnyConfig, steps: Sequence[int]) -> Found | None:
    """A fitting run that reached the last of the steps and has a generator for each of them, or None."""
    fitting = (each for each in found if each.fits(wanted) and each.steps() >= set(steps))
    return next((each for each in fitting if last_step(each.run) >= max(steps)), None)


def train_run(
    folder: Path,
    found: Sequence[Found],
    wanted: AnyConfig,
    steps: Sequence[int],
    data: ImageData,
    progress: Progress,
    stop_requested: Callable[[], bool],
) -> tuple[Found, Summary]:
    """Trains to the last of the steps and keeps a snapshot at each. An interrupted run resumes.

    Raises:
        TrainingDivergedError: the run diverged.
        RunFolderError: the checkpoint is damaged.
    """
    config = with_precision(override(wanted, {"steps": max(steps)}), "auto", choose_device(wanted.device))
    interrupted = next((run for run in found if run.own and run.fits(wanted) and _can_resume(run, steps)), None)
    if interrupted is None:
        run = RunFolder.create(folder / OWN_FOLDER, config)
    else:
        run, config = interrupted.run, override(config, {"precision": interrupted.config.precision})
    summary = train(
        config,
        run,
        data,
        progress,
        resume=interrupted is not None,
        stop_requested=stop_requested,
        after_step=keep_snapshots(run, steps),
    )
    return Found(run, config, own=True), summary


def _can_resume(found: Found, steps: Sequence[int]) -> bool:
    """Whether every missing snapshot comes after the last checkpoint."""
    kept, last = found.steps(), last_step(found.run)
    return all(step in kept or step > last for step in steps)
