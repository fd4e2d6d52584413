"""A CUDA graph of a computation, and its stand-in on a CPU.

Source: PyTorch's notes on CUDA semantics, "Whole-network capture": warm up on a side stream, capture, replay; inputs
and outputs keep their memory. Warm-up and capture use one stream here, because cuBLAS keeps its handles per stream.
Random numbers from the default CUDA generator differ from replay to replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class SideStream:
    """A stream for warm-ups and captures; on a CPU, nothing."""

    def __init__(self, device: torch.device) -> None:
        cuda: Any = torch.cuda
        self.stream = cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Computes on the stream, after everything before on the current one, and before everything after."""
        if self.stream is None:
            yield
            return
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)


class StepGraph:
    """A computation that is captured once and replayed; on a CPU, it is called at each replay instead.

    The caller has computed it a few times on the side stream: what is allocated at the first call, such as the moments
    of an optimiser, must not be captured.

    Args:
        compute: works on tensors that keep their memory and returns one; never waits for the device.
        side: the stream of the warm-up.
    """

    def __init__(self, compute: Callable[[], Tensor], side: SideStream) -> None:
        self._compute = compute
        self._graph: Any = None
        self._output: Tensor | None = None
        if side.stream is not None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=side.stream):
                self._output = compute()

    def replay(self) -> Tensor:
        """Computes again; returns a copy of the output."""
        if self._graph is None:
            return self._compute()
        assert self._output is not None
        self._graph.replay()
        return self._output.clone()
