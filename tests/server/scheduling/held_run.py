"""A fake engine and a fake clock, so that tests of the batcher wait for events and never for the clock."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.scheduling.batcher import Batcher

IMAGES = frozenset({"images"})
PIXELS = frozenset({"pixels"})
_PATIENCE_S = 20.0


def rows_of(*first_values: float) -> NDArray[np.float32]:
    """Inputs (rows, 2) whose first column is given, so that rows can be distinguished."""
    return np.stack([np.array([value, value + 0.5], np.float32) for value in first_values])


def answers(inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
    """What the fake engine computes, from each row alone."""
    every = {"images": inputs * 2, "pixels": inputs + 1}
    return {name: every[name] for name in outputs}


class HeldRun:
    """A `run` that returns only when the test releases it. A row whose first value is negative fails its batch."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []  # the first column of each batch, in the order of their start
        self.outputs: list[frozenset[str]] = []
        self._started: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._permits = threading.Semaphore(0)
        self._open = False

    def __call__(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        self.batches.append(inputs[:, 0].tolist())
        self.outputs.append(outputs)
        self._started.put(len(inputs))
        if not self._open and not self._permits.acquire(timeout=_PATIENCE_S):
            raise TimeoutError("the test never released this batch")
        if (inputs[:, 0] < 0).any():
            raise ValueError("secret detail")
        return answers(inputs, outputs)

    @property
    def computed(self) -> list[float]:
        """The first column of all started rows."""
        return [value for batch in self.batches for value in batch]

    async def started(self) -> int:
        """Waits until one more batch has started; returns its number of rows."""
        return await asyncio.to_thread(self._started.get, timeout=_PATIENCE_S)

    def release(self, batches: int = 1) -> None:
        """Releases this many batches."""
        self._permits.release(batches)

    def release_all(self) -> None:
        """Releases every batch from now on."""
        self._open = True
        self._permits.release(1000)


class FakeClock:
    """The time of the running event loop, moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0
        vars(asyncio.get_running_loop())["time"] = lambda: self.now

    async def advance(self, seconds: float) -> None:
        """Lets tasks run as far as they can, advances the time, and runs the timers that are due."""
        await settle()
        self.now += seconds
        await settle()


async def until(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; lets the event loop run between checks."""
    for _ in range(20_000):
        if condition():
            return
        await settle()
    raise AssertionError("it never came true")


async def settle() -> None:
    """Lets every task run until it blocks."""
    for _ in range(5):
        await asyncio.sleep(0)


async def occupy(batcher: Batcher, held: HeldRun) -> asyncio.Task[Any]:
    """Keeps the engine busy with one row, 99, so that later requests wait."""
    task = asyncio.create_task(batcher.submit(rows_of(99), IMAGES))
    await held.started()
    return task


def submit(batcher: Batcher, *first_values: float, **more: Any) -> asyncio.Task[Any]:
    """Submits `rows_of(*first_values)` in a task."""
    return asyncio.create_task(batcher.submit(rows_of(*first_values), IMAGES, **more))
