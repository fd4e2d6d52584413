"""What two processes do together for the tests to look at: a script that is started once for all of them.

It forks both once torch is imported, which takes longer than the exercises, and tells them what torchrun tells those
that it starts.

python -m tests.trainer.distributed.exercises FOLDER
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch._dynamo  # optimizers import it
import torch.distributed as dist
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

from tests.trainer.conftest import made_up_images, small_config
from tests.trainer.distributed.cases import CASES, compute, sha256_of
from trainer.config import AnyConfig
from trainer.errors import TrainingDivergedError, UserError
from trainer.parallel import (
    PeerError,
    all_rows,
    any_of_all,
    average_gradients,
    check_shares,
    first_before_others,
    is_first,
    joined,
    means_of_all,
    own_rows,
    texts_of_all,
    together,
    world_size,
)
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining
from trainer.training.loop import train
from trainer.training.session import Summary

RESUMED = {
    "dcgan with dropout": small_config("dcgan", "dcgan-upsample32", steps=6),
    "pggan": small_config("pggan", "pggan-small", steps=6),
    "cyclegan": small_config("cyclegan", "cyclegan-digits", steps=6),
}
HALF = 3
TERMINAL = "what was said.txt"


def run_folder(folder: Path, name: str, how: str) -> RunFolder:
    """The same on all processes, unlike what `RunFolder.create` makes."""
    return RunFolder(folder / f"{name} {how}")


def train_in(run: RunFolder, config: AnyConfig, *, stop_at: int = 0, resume: bool = False) -> Summary:
    """Trains in a folder; where `stop_at` is given, only the last process is asked to stop there."""
    if is_first() and not run.path.exists():
        for folder in (run.samples, run.figures, run.path / "checkpoints"):
            folder.mkdir(parents=True)
        run.write_config(config)
    steps = 0

    def stop_requested() -> bool:
        nonlocal steps
        steps += 1
        last = not dist.is_initialized() or dist.get_rank() == world_size() - 1
        return last and steps == stop_at

    said = io.StringIO()
    progress = Progress(Console(file=said, width=200))
    data = made_up_images(config)
    # Drawing takes longer than all the rest.
    with patch.object(GanTraining, "draw_figures"), patch.object(CycleTraining, "draw_figures"):
        summary = train(config, run, data, progress, resume=resume, stop_requested=stop_requested)
    if is_first():
        (run.path / TERMINAL).write_text(said.getvalue())
    return summary


def _compute_cases(folder: Path) -> dict[str, Any]:
    """The state of each case, as the first process has it; and whether all have the same bits."""
    alike = {}
    for number, (name, config) in enumerate(CASES.items()):
        tensors = compute(config)
        alike[name] = len(set(texts_of_all(sha256_of(tensors)))) == 1
        if is_first():
            save_file(tensors, folder / f"{number}.safetensors")
    return alike


def _train_and_resume(folder: Path) -> dict[str, Any]:
    """Runs to the end, and runs that stop half way and go on; and one that a single process began."""
    stopped = {}
    for name, config in RESUMED.items():
        train_in(run_folder(folder, name, "whole"), config)
        halves = run_folder(folder, name, "halves")
        summary = train_in(halves, config, stop_at=HALF)
        stopped[name] = (summary.step, summary.interrupted)
        train_in(halves, config, resume=True)
        train_in(run_folder(folder, name, "half"), config, stop_at=HALF)
        train_in(run_folder(folder, name, "begun alone"), config, resume=True)
    return stopped


def _exchange(_folder: Path) -> dict[str, Any]:
    rank, processes = dist.get_rank(), world_size()
    batch = torch.arange(12.0).view(6, 2)
    weight = nn.Parameter(torch.tensor([float(rank), 1.0]))
    untrained = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight, untrained], lr=1.0)
    weight.grad = torch.tensor([1.0 + rank, 10.0 * rank])
    average_gradients(optimizer)
    rows = own_rows(batch).requires_grad_(True)
    everything = all_rows(rows)
    # The sum over both processes of sum(x^3) has the gradient 2 * 3 x^2, and that one's sum the gradient 4 * 6 x.
    (first,) = torch.autograd.grad(everything.pow(3).sum(), rows, create_graph=True)
    (second,) = torch.autograd.grad(all_rows(first).sum(), rows)
    return {
        "own": own_rows(batch).tolist(),
        "all": all_rows(own_rows(batch)).tolist(),
        "first derivative": first.tolist(),
        "second derivative": second.tolist(),
        "gradient": weight.grad.tolist(),
        "no gradient": untrained.grad is None,
        "means": [mean.item() for mean in means_of_all([torch.tensor(float(rank)), torch.tensor(4, dtype=torch.int)])],
        "any": [any_of_all(rank == 1), any_of_all(False), any_of_all(True)],
        "texts": texts_of_all(f"\N{SNOWMAN} {rank}"),
        "uneven": _raised(lambda: check_shares([4, 7])),
        "processes": processes,
    }


def _fail_together(folder: Path) -> dict[str, Any]:
    rank = dist.get_rank()

    def on(guilty: int, error: Exception) -> Callable[[], None]:
        def work() -> None:
            with together():
                if rank == guilty:
                    raise error

        return work

    def both() -> None:
        with together():
            raise UserError(f"of process {rank}")

    def leave_a_file() -> None:
        with together(), first_before_others(True):
            if not is_first():
                assert (folder / "left").is_file()
            (folder / "left").touch()

    def fail_first() -> None:
        with together(), first_before_others(True):
            raise UserError(f"in turn, process {rank}")

    return {
        "told by the second": _raised(on(1, UserError("--flag: no"))),
        "diverged on the first": _raised(on(0, TrainingDivergedError("NaN"))),
        "disk": _raised(on(1, OSError(28, "No space left on device", "/full"))),
        "a bug on the second": _raised(on(1, KeyError("bug"))),
        "both": _raised(both),
        "in turn": _raised(leave_a_file),
        "the first of a turn": _raised(fail_first),
    }


def _lose_a_peer(_folder: Path) -> dict[str, Any]:
    """To be the last: the second process is gone after it."""
    if dist.get_rank() == 1:
        os._exit(0)
    return {"lost": _raised(lambda: any_of_all(False))}


def _raised(work: Callable[[], object]) -> str:
    try:
        work()
    except (UserError, TrainingDivergedError, PeerError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def main(folder: Path) -> None:
    """Starts both processes, and waits for them; ends both as soon as one has failed."""
    torch.set_num_threads(1)
    os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    reader, writer = os.pipe()
    running = {pid for rank in range(2) if (pid := _fork(folder, rank, reader))}
    # After the forks, for it has threads.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    os.write(writer, f"{store.port:05d}".encode() * 2)
    while running:
        pid, status = os.wait()
        running.remove(pid)
        if status:
            for other in running:
                os.kill(other, signal.SIGKILL)
            sys.exit(1)


def _fork(folder: Path, rank: int, reader: int) -> int:
    """Starts a process that does all exercises and ends; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": os.read(reader, 5).decode()}
        _exercise(folder)
    except BaseException:  # noqa: BLE001 - a child must not go on as its parent
        traceback.print_exc()
    os._exit(1)


def _exercise(folder: Path) -> None:
    """Writes NAME.RANK.json for each exercise."""
    with joined():
        for exercise in (_exchange, _fail_together, _compute_cases, _train_and_resume, _lose_a_peer):
            (folder / f"{exercise.__name__}.{dist.get_rank()}.json").write_text(json.dumps(exercise(folder)))
        os._exit(0)  # there is no one left to leave with


if __name__ == "__main__":
    main(Path(sys.argv[1]))
