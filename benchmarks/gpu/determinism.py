"""Whether runs are repeatable bit by bit, also after a kill, and whether two processes can share a GPU."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file

from benchmarks.gpu.commands import command, finish, last_line, run_module
from benchmarks.gpu.record import Record, Skip
from benchmarks.gpu.settings import Settings

_FIRST: Final = "dcgan"
_OTHERS: Final = ("wgan-gp", "pggan", "cyclegan")
_CHECKPOINT: Final = Path("checkpoints") / "last.safetensors"
_COMPARED_STEPS: Final = 5


def run(settings: Settings, record: Record) -> None:
    """Makes the measurements of this stage."""

    def measure(model: str) -> None:
        name = f"two runs of {model} give the same bits"
        record.measure(name, partial(same_bits, settings, model), needs_s=settings.choose(12, 0))

    measure(_FIRST)
    record.measure("a run that was killed resumes with the same bits", partial(after_a_kill, settings))
    record.measure("two processes on one device, by gloo", partial(two_processes, settings))
    for model in () if settings.is_dry else _OTHERS:
        measure(model)


def same_bits(settings: Settings, model: str) -> dict[str, Any]:
    """Trains twice at the same time, and compares everything in the checkpoints."""
    runs = [_start(settings, f"{model}-{number}", _flags(settings, model)) for number in (1, 2)]
    first, second = (last_line(finish(each)) for each in runs)
    return _compare(first, second)


def after_a_kill(settings: Settings) -> dict[str, Any]:
    """Kills a run after a checkpoint, resumes it, and compares it with the first one of `same_bits`."""
    whole = next((settings.work / f"{_FIRST}-1").glob(f"*/{_CHECKPOINT}"), None)
    if whole is None:
        raise Skip("needs the run of the measurement before")
    killed = _start(settings, "killed", _flags(settings, _FIRST))
    start_s = settings.choose(30.0, 240.0)
    ends_s = time.monotonic() + start_s
    while killed.poll() is None and not (found := list((settings.work / "killed").glob(f"*/{_CHECKPOINT}"))):
        if time.monotonic() > ends_s:
            killed.kill()
            raise Skip(f"it has written no checkpoint within {start_s:.0f} s")
        time.sleep(0.005)
    if killed.poll() is not None:
        finish(killed)
        raise Skip("it ended before it could be killed")
    killed.kill()
    killed.communicate()
    text = run_module("trainer", "--resume", str(found[0].parents[1]))
    return _compare(whole.parents[1], last_line(text))


def two_processes(settings: Settings) -> dict[str, Any]:
    """Trains in two processes, and compares the first losses with those of a single process."""
    flags = _flags(settings, _FIRST, is_deterministic=False)
    alone = _start(settings, "alone", flags)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "benchmarks.gpu.two_processes"]
    together = subprocess.Popen(
        [*command(*launcher), *flags, "--out", str(settings.work / "together")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    finish(alone)
    finish(together)
    losses = [_losses(settings.work / name) for name in ("alone", "together")]
    worst = max(abs(one - other) / max(1.0, abs(one)) for one, other in zip(*losses, strict=True))
    summary = f"losses of the first {_COMPARED_STEPS} steps differ by up to {worst:.1e}"
    if worst > 0.05:
        raise AssertionError(summary)
    return {"worst": worst, "losses": losses, "summary": summary}


def _flags(settings: Settings, model: str, *, is_deterministic: bool = True) -> list[str]:
    steps, every = (int(settings.choose(*pair)) for pair in ((300, 100), (50, 20)))
    flags = ["--model", model, "--dataset", "digits", "--seed", "3", "--steps", str(steps)]
    flags += ["--set", f"checkpoint_every_steps={every}", "--device", settings.device_name]
    flags += ["--deterministic"] if is_deterministic else []
    return [*flags, *settings.tiny_flags]


def _start(settings: Settings, folder: str, flags: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command("trainer", *flags), "--out", str(settings.work / folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _compare(first: Path, second: Path) -> dict[str, Any]:
    ones, others = (load_file(folder / _CHECKPOINT) for folder in (first, second))
    if ones.keys() != others.keys():
        raise AssertionError("the checkpoints hold different tensors")
    differing = [name for name, tensor in ones.items() if not torch.equal(tensor, others[name])]
    if differing:
        raise AssertionError(f"{len(differing)} of {len(ones)} tensors differ, such as {differing[0]}")
    return {"tensors": len(ones), "summary": f"all {len(ones)} tensors are equal"}


def _losses(folder: Path) -> list[float]:
    (metrics,) = folder.glob("*/metrics.jsonl")
    rows = [row for line in metrics.read_text().splitlines() if (row := json.loads(line))["kind"] == "step"]
    return [row["d_loss"] for row in rows[:_COMPARED_STEPS]]
