"""The same run gives the same bits on CUDA too, where the fastest algorithms add in whatever order threads finish."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic(device: torch.device, *, wanted: bool) -> Iterator[None]:
    """Lets only algorithms run that repeat their bits, if wanted and the device is CUDA; a CPU's always do.

    cuBLAS reads its variable when it starts, so enter this before anything is computed on the device. A layer that has
    no such algorithm raises RuntimeError, which names it.
    Source: PyTorch's notes on reproducibility, https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    if not wanted or device.type != "cuda":
        yield
        return
    was_on = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    searched = torch.backends.cudnn.benchmark
    os.environ.setdefault(_WORKSPACE, ":4096:8")  # stays: cuBLAS may have read it
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False  # timing the algorithms may choose another one every time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=warned_only)
        torch.backends.cudnn.benchmark = searched
