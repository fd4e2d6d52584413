"""Data-parallel training: communication between the processes that torchrun starts. With one process, all are no-ops.

Every process holds a copy of the data, networks, optimisers and pools, and the same random state. All draw the same
random numbers for the full batch, and each computes its own contiguous rows. They exchange what depends on other rows:
batch statistics (models/across_processes.py), gradients, the input of image pools, and logged values. So the processes
stay identical, and a checkpoint does not depend on their number. Only the first process writes.

Gradients are averaged explicitly, without a wrapper around the networks, because penalties differentiate twice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from ganserve.foreign import first_line
from trainer.errors import RunFolderError, TrainingDivergedError, UserError

# The others wait while the first evaluates. A process that dies is detected at once, because its connections close.
_PATIENCE: Final = timedelta(days=1)
_BUCKET_BYTES: Final = 32 << 20  # of gradients in one exchange
_TEXT_BYTES: Final = 4096


class PeerError(Exception):
    """Another process of this run failed; that process prints the reason."""


@dataclass(frozen=True)
class Launch:
    """What torchrun passes to a process that it starts; ranks count from 0."""

    rank: int
    processes: int
    local_rank: int  # among the processes on this machine


def launch() -> Launch | None:
    """How torchrun started this process; None if it runs alone."""
    values = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(value.isdecimal() for value in values) or "MASTER_ADDR" not in os.environ:
        return None
    rank, processes, local_rank = map(int, values)
    return Launch(rank, processes, local_rank) if processes > 1 else None


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    started = launch()
    return started is None or started.rank == 0


def world_size() -> int:
    """Number of processes that train together; 1 outside of `joined`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def processes_here() -> int:
    """Number of processes of this run on this machine, which share its memory."""
    started = launch()
    if started is None:
        return 1
    here = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(here) if here.isdecimal() else started.processes


@contextmanager
def joined() -> Iterator[None]:
    """While entered, the processes can exchange tensors: with gloo on the CPU, with NCCL on CUDA.

    Raises:
        UserError: they cannot reach each other.
    """
    if launch() is None:
        yield
        return
    nccl = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"torchrun: the processes cannot reach each other ({first_line(error)})") from error
    try:
        yield
    except SystemExit:  # raised by all processes or by none
        _leave()
        raise
    except BaseException:
        # torchrun stops the others as soon as one has failed; each should end with its own message and exit code.
        # The group is not destroyed, because that could wait for a process that has died.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    _leave()


def own_cuda_device() -> torch.device:
    """The CUDA device of this process.

    Raises:
        UserError: this machine has fewer devices than processes.
    """
    started = launch()
    if started is None:
        return torch.device("cuda")
    count = torch.cuda.device_count()
    if started.local_rank >= count:
        raise UserError(
            f"--device: there are more processes on this machine than CUDA devices, {count};"
            f" give torchrun --nproc-per-node {count}, or train with --device cpu"
        )
    device = torch.device("cuda", started.local_rank)
    torch.cuda.set_device(device)  # NCCL uses it
    return device


def check_shares(batch_sizes: Iterable[int]) -> None:
    """Raises UserError if the processes cannot share batches of these sizes evenly."""
    processes = world_size()
    for size in batch_sizes:
        if size % processes:
            raise UserError(
                f"--batch-size: {processes} processes cannot share batches of {size} images evenly;"
                f" give a multiple of {processes}, or start fewer processes"
            )


def own_rows(batch: Tensor) -> Tensor:
    """This process's contiguous rows (N / processes, ...) of a batch (N, ...) that all processes hold.

    Raises:
        ValueError: the processes cannot share the batch evenly.
    """
    processes = world_size()
    if processes == 1:
        return batch
    share, left = divmod(len(batch), processes)
    if left:
        raise ValueError(f"{processes} processes cannot share {len(batch)} rows evenly")
    return batch[dist.get_rank() * share :][:share]


def all_rows(own: Tensor) -> Tensor:
    """The batch (N, ...) from each process's own rows (N / processes, ...): the inverse of `own_rows`.

    Differentiable any number of times.
    """
    processes = world_size()
    if processes == 1:
        return own
    before = dist.get_rank() * len(own)
    after = (processes - 1) * len(own) - before
    return sum_of_all(F.pad(own, [0, 0] * (own.ndim - 1) + [before, after]))


def sum_of_all(tensor: Tensor) -> Tensor:
    """The sum of the processes' tensors, bit-identical on each; differentiable any number of times."""
    if world_size() == 1:
        return tensor
    total: Tensor = _SumOfAll.apply(tensor)
    return total


def average_gradients(optimizer: Optimizer) -> None:
    """Replaces the gradients of an optimiser's parameters by their means over the processes.

    If the loss is a mean over a process's rows, these are the gradients of the mean over the full batch. A parameter
    without a gradient, such as one in a stage that does not run yet, has none on any process.
    """
    processes = world_size()
    if processes == 1:
        return
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        with _peers_may_be_lost():
            dist.all_reduce(flat)
        flat /= processes
        parts = torch.split(flat, [gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))


def means_of_all(scalars: Sequence[Tensor]) -> list[Tensor]:
    """Means of scalars over the processes, on the CPU. All processes must call it, with equally many scalars."""
    on_cpu = _on_cpu(scalars)
    if world_size() == 1 or not scalars:
        return on_cpu
    stacked = torch.stack([scalar.double() for scalar in on_cpu])
    with _peers_may_be_lost():
        dist.all_reduce(stacked)
    return list(stacked / world_size())


def _on_cpu(scalars: Sequence[Tensor]) -> list[Tensor]:
    """The scalars on the CPU: those on a GPU in one copy, because each waits for the steps that measured them."""
    values = list(scalars)
    remote = [index for index, scalar in enumerate(values) if scalar.device.type != "cpu"]
    if remote:
        copied = torch.stack([values[index].double() for index in remote]).cpu()
        for index, value in zip(remote, copied, strict=True):
            values[index] = value
    return values


def any_of_all(flag: bool) -> bool:
    """Whether the flag is set on any process. All processes must call it."""
    if world_size() == 1:
        return flag
    count = torch.tensor(int(flag))
    with _peers_may_be_lost():
        dist.all_reduce(count)
    return bool(count.item())


def texts_of_all(text: str) -> list[str]:
    """The texts of all processes by rank, each cut to 4 KiB. All processes must call it."""
    if world_size() == 1:
        return [text]
    content = text.encode(errors="surrogateescape")[:_TEXT_BYTES]
    own = torch.frombuffer(bytearray(content.ljust(_TEXT_BYTES, b"\0")), dtype=torch.uint8)
    gathered = [torch.empty_like(own) for _ in range(world_size())]
    with _peers_may_be_lost():
        dist.all_gather(gathered, own)
    return [bytes(each.tolist()).rstrip(b"\0").decode(errors="surrogateescape") for each in gathered]


def _leave() -> None:
    """Destroys the group once all processes are done; otherwise torchrun could stop the first while it prints."""
    any_of_all(False)
    dist.destroy_process_group()


class _SumOfAll(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        with _peers_may_be_lost():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Any:
        # This process's tensor is a term in the outputs of all processes.
        return _SumOfAll.apply(gradients[0])


@contextmanager
def _peers_may_be_lost() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise PeerError("another process of this run has ended") from error


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (size + gradient.nbytes > _BUCKET_BYTES or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket


_SHARED_ERRORS: Final = {error.__name__: error for error in (UserError, RunFolderError, TrainingDivergedError)}


@contextmanager
def first_speaks() -> Iterator[None]:
    """Silences all processes but the first while entered. Python still prints unexpected exceptions afterwards."""
    if is_first():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def together() -> Iterator[None]:
    """Makes a block end at the same time on all processes, and fail on all of them if it fails on one.

    The block must not exchange anything, except in `first_before_others`. Every process raises the error of the lowest
    failed rank. If that error has no message for the user, its process alone raises it, and the others raise a
    PeerError. An OSError becomes a UserError.
    """
    if world_size() == 1:
        yield
        return
    try:
        yield
    except PeerError:  # from `first_before_others`
        _raise_first(None)
        raise
    except OSError as error:
        _raise_first(UserError(f"{str(error.filename or 'a file')[:200]}: {error.strerror}"))
    except Exception as error:
        _raise_first(error)
        raise
    else:
        _raise_first(None)


@contextmanager
def first_before_others(wanted: bool) -> Iterator[None]:
    """If `wanted`, the first process runs the block before the others, so that it can prepare files for them.

    Raises:
        PeerError: the first process failed; the others do not run the block.
    """
    if not wanted or world_size() == 1:
        yield
        return
    if not is_first():
        if any_of_all(False):
            raise PeerError("the first process failed")
        yield
        return
    try:
        yield
    except Exception:
        any_of_all(True)
        raise
    any_of_all(False)


def _raise_first(own: Exception | None) -> None:
    name = type(own).__name__
    outcomes = texts_of_all("" if own is None else f"{name if name in _SHARED_ERRORS else ''}:{own}")
    failed = next((outcome for outcome in outcomes if outcome), None)
    if failed is None or (own is not None and name not in _SHARED_ERRORS):
        return
    kind, _, message = failed.partition(":")
    if not kind:
        raise PeerError("another process failed") from None
    raise _SHARED_ERRORS[kind](message) from None


def choose_device(name: str) -> torch.device:
    """The torch device that --device names.

    Raises:
        UserError: the name is `cuda` and there is no CUDA device, or there are more processes than devices.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is usable here; give --device cpu or auto")
    return own_cuda_device() if name != "cpu" and torch.cuda.is_available() else torch.device("cpu")
