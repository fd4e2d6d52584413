"""Bit-identical runs on CUDA, whose fastest algorithms add in the order in which threads finish."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic(device: torch.device, *, wanted: bool) -> Iterator[None]:
    """Restricts PyTorch to deterministic algorithms, if wanted and the device is CUDA; on a CPU, all are.

    Enter it before anything is computed on the device: cuBLAS reads its environment variable when it starts. A layer
    without a deterministic algorithm raises a RuntimeError that names it.
    Source: PyTorch's notes on reproducibility, https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    if not wanted or device.type != "cuda":
        yield
        return
    was_on = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    searched = torch.backends.cudnn.benchmark
    os.environ.setdefault(_WORKSPACE, ":4096:8")  # not restored: cuBLAS may have read it
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False  # benchmarking may choose another algorithm every time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=warned_only)
        torch.backends.cudnn.benchmark = searched
