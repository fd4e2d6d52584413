"""Trains several models at once for as long as there is time, and scores them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.commands import command, finish, run_module
from benchmarks.gpu.record import Record, Skip
from benchmarks.gpu.settings import Settings

_SCORING_S: Final = 30.0  # for all at once, after the trainings
_STOP_S: Final = 20.0
_SHOWN: Final = {
    "frechet_distance": "FD",
    "precision": "precision",
    "recall": "recall",
    "sliced_wasserstein_distance": "SWD",
    "l1_ab": "L1",
}


@dataclass(frozen=True)
class Job:
    """One training.

    Args:
        name: in the table, and of its picture.
        flags: of the trainer; {data} stands for the folder of the data sets.
        needs: a file in that folder, or none.
    """

    name: str
    flags: tuple[str, ...]
    needs: str = ""

    @property
    def has_labels(self) -> bool:
        """Whether its data are digits, for which trainer.evaluate knows everything."""
        return "mnist" in self.flags


_MNIST: Final = ("--dataset", "mnist", "--data-root", "{data}")
_MNIST_FILE: Final = "MNIST/raw/train-images-idx3-ubyte.gz"
_FACES: Final = "anime-faces-64.zip"
_EMOJI: Final = "noto2twemoji-128.zip"
_ENDLESS: Final = ("--steps", "1000000")
_PGGAN64: Final = ("--image-size", "64", "--width", "4", "--batch-size", "64", "--images", "100000000")

JOBS: Final = (
    Job("dcgan64 faces", ("--model", "dcgan", "--preset", "dcgan64-r3", "--dataset", f"zip:{{data}}/{_FACES}"), _FACES),
    Job(
        "cyclegan emoji 64 px",
        ("--model", "cyclegan", "--preset", "cyclegan-64", "--dataset", f"zip:{{data}}/{_EMOJI}"),
        _EMOJI,
    ),
    Job("pggan mnist 64 px", ("--model", "pggan", *_MNIST, *_PGGAN64), _MNIST_FILE),
    *(
        Job(f"{model} mnist", ("--model", model, *_MNIST), _MNIST_FILE)
        for model in ("gan", "dcgan", "wgan", "wgan-gp", "wgan-div", "pggan", "cyclegan")
    ),
)
_DRY_JOBS: Final = (
    Job("dcgan digits", ("--model", "dcgan", "--dataset", "digits")),
    Job("dcgan of nothing", ("--model", "dcgan", "--dataset", "zip:{data}/none.zip"), "none.zip"),
)


def run(settings: Settings, record: Record) -> None:
    """Makes the measurements of this stage."""
    jobs = _DRY_JOBS if settings.is_dry else JOBS
    trained = {job.name: settings.work / "runs" / job.name.replace(" ", "-") for job in jobs}
    record.measure("train all at once", partial(train, settings, jobs, trained), needs_s=settings.choose(50, 0))
    if record.is_full:
        return
    scores: dict[str, subprocess.Popen[str]] = {}
    for job in jobs:
        if run_folder := _run_in(trained[job.name]):
            scores[job.name] = _start(command("trainer.evaluate", *_scoring(settings, job), str(run_folder)))
    for job in jobs:
        record.measure(job.name, partial(score, settings, job, trained[job.name], scores))


def train(settings: Settings, jobs: tuple[Job, ...], folders: Mapping[str, Path]) -> dict[str, Any]:
    """Starts a trainer per job, and stops all as a user would, so that each saves a checkpoint and samples."""
    began_s = time.monotonic()
    ends_s = began_s + settings.choose(max(15.0, settings.left_s - _SCORING_S - _STOP_S), 300.0)
    trainers: dict[str, subprocess.Popen[str]] = {}
    for job in jobs:
        if not job.needs or (settings.data / job.needs).exists():
            flags = [flag.format(data=settings.data) for flag in job.flags]
            flags += [] if "--images" in flags else ["--steps", "4"] if settings.is_dry else _ENDLESS
            flags += settings.tiny_flags
            flags += ["--device", settings.device_name, "--out", str(folders[job.name])]
            trainers[job.name] = _start(command("trainer", *flags))
    while time.monotonic() < ends_s and any(trainer.poll() is None for trainer in trainers.values()):
        time.sleep(0.2)
    for trainer in trainers.values():
        if trainer.poll() is None:
            trainer.send_signal(signal.SIGTERM)
    trained_s = time.monotonic() - began_s
    codes: dict[str, int] = {}
    for name, trainer in trainers.items():
        try:
            text, _ = trainer.communicate(timeout=max(1.0, ends_s + _STOP_S - time.monotonic()))
            print(f"-- {name}\n{text}", flush=True)
        except subprocess.TimeoutExpired:
            trainer.kill()
            trainer.communicate()
        codes[name] = trainer.returncode
    summary = f"{len(trainers)} of {len(jobs)} for {trained_s:.0f} s, sharing the GPU"
    return {"seconds": trained_s, "exit_codes": codes, "summary": summary}


def score(settings: Settings, job: Job, folder: Path, scores: Mapping[str, subprocess.Popen[str]]) -> dict[str, Any]:
    """The scores of a job, and its last sample grid."""
    if job.needs and not (settings.data / job.needs).exists():
        raise Skip(f"{settings.data / job.needs} does not exist")
    run_folder = _run_in(folder)
    if run_folder is None:
        raise Skip("it has no checkpoint; the log says why")
    samples = sorted((run_folder / "samples").glob("*.png"))
    step = int(samples[-1].stem.removeprefix("step-"))
    (settings.keep / f"{folder.name}.png").write_bytes(samples[-1].read_bytes())
    if job.name in scores:
        text = finish(scores[job.name], timeout_s=max(1.0, settings.left_s - 2))
    else:
        text = run_module("trainer.evaluate", *_scoring(settings, job), str(run_folder))
    metrics = json.loads(text[text.index("{") :])["metrics"]
    shown = ", ".join(f"{_SHOWN[name]} {metrics[name]:.3g}" for name in _SHOWN if metrics.get(name) is not None)
    return {"steps": step, "metrics": metrics, "summary": f"{step:,} steps: {shown or metrics}"}


def _scoring(settings: Settings, job: Job) -> list[str]:
    flags = ["--checkpoint", "last", "--json", "--device", settings.device_name]
    if "cyclegan" in job.flags:
        return flags
    measures = "swd" if settings.is_dry else "swd,frechet,precision-recall"
    return [*flags, "--measures", measures, "--images", str(int(settings.choose(4096, 64)))]


def _run_in(folder: Path) -> Path | None:
    checkpoints = sorted(folder.glob("*/checkpoints/last.safetensors"))
    return checkpoints[-1].parents[1] if checkpoints else None


def _start(arguments: list[str]) -> subprocess.Popen[str]:
    # Progress on the standard error; a JSON document must stay alone on the standard output.
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
