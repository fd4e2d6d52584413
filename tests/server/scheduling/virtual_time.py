"""An overloaded batcher in virtual time: nothing sleeps, and the result does not depend on the machine."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from server.errors import ServerError
from server.scheduling import batch
from server.scheduling.batcher import Batcher
from server.scheduling.instances import InstanceGroups
from server.scheduling.queue import DEFAULT_PRIORITY

ROWS_PER_S = 1000.0
PIXELS = frozenset({"pixels"})
RETRY_S = 0.05

BatchTime = Callable[[int, float], float]
"""Maps the rows of a batch, and the time when it starts, to its seconds."""


class _Selector(selectors.SelectSelector):
    """Advances the clock of its loop instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it has nothing to do."""

    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


class _Threads:
    """Stands in for the threads of a batcher: the result of a batch arrives after the time that it takes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, batch_s: BatchTime) -> None:
        self._loop = loop
        self._batch_s = batch_s
        self.took_s = 0.0  # of the batch whose result arrives

    def submit(self, run: Callable[..., None], *arguments: Any) -> None:
        seconds = self._batch_s(sum(part.rows for part in arguments[-1]), self._loop.time())
        self._loop.call_later(seconds, self._finish, seconds, run, *arguments)

    def _finish(self, seconds: float, run: Callable[..., None], *arguments: Any) -> None:
        self.took_s = seconds
        run(*arguments)

    def shutdown(self, *, wait: bool = True) -> None:
        """Nothing is running."""


@dataclass
class Caller:
    """Sends requests at a fixed share of the capacity, whether or not they are answered; or one after the other."""

    load: float = 0.0  # rows per second, as a multiple of the capacity
    deadline_s: float = math.inf
    rows: Callable[[], int] = lambda: 16
    priority: int = DEFAULT_PRIORITY
    in_turn: int = 0  # this many send a request once the one before has ended, instead of `load`
    outcomes: Counter[str] = field(default_factory=Counter)
    answered_rows: int = 0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def p99_s(self) -> float:
        return sorted(self.latencies_s)[int(0.99 * len(self.latencies_s))]


def sizes(least: int, most: int) -> Callable[[], int]:
    """Draws the rows of requests."""
    source = random.Random(7)
    return lambda: source.randint(least, most)


def in_proportion(rows: int, _: float) -> float:
    """An engine that computes `ROWS_PER_S`, whatever the size of the batch."""
    return rows / ROWS_PER_S


def overload(
    monkeypatch: pytest.MonkeyPatch,
    *callers: Caller,
    seconds: float = 6.0,
    max_queue_rows: int = 4096,
    batch_s: BatchTime = in_proportion,
) -> float:
    """Sends the requests of some callers to one engine; returns the answered rows as a share of the capacity.

    It counts whatever is answered in time within `seconds`.
    """
    clock = SimpleNamespace(now=0.0)
    threads: _Threads
    monkeypatch.setattr(batch, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def run(inputs: NDArray[Any], _: frozenset[str]) -> dict[str, NDArray[Any]]:
        clock.now += threads.took_s  # what the batch measures
        return {"pixels": np.zeros((len(inputs), 1), np.uint8)}

    async def main() -> None:
        nonlocal threads
        loop = asyncio.get_running_loop()
        threads = _Threads(loop, batch_s)
        batcher = Batcher(InstanceGroups.of(run, 64), max_queue_rows=max_queue_rows, name="tiny")
        batcher._threads.shutdown()
        batcher._threads = threads  # type: ignore[assignment]

        async def request(caller: Caller, rows: int) -> None:
            began = loop.time()
            try:
                await batcher.submit(np.zeros((rows, 1)), PIXELS, began + caller.deadline_s, caller.priority)
            except ServerError as error:
                caller.outcomes[type(error).__name__] += 1
                return
            caller.outcomes["answered"] += 1
            caller.latencies_s.append(loop.time() - began)
            if loop.time() <= seconds:
                caller.answered_rows += rows

        async def send_in_turn(caller: Caller) -> None:
            while loop.time() < seconds:
                refused = caller.outcomes["QueueFull"]
                await request(caller, caller.rows())
                if caller.outcomes["QueueFull"] > refused:
                    await asyncio.sleep(RETRY_S)

        async def send(caller: Caller) -> None:
            async with asyncio.TaskGroup() as requests:
                sent_rows = 0
                while (due := sent_rows / ROWS_PER_S / caller.load) < seconds:
                    await asyncio.sleep(due - loop.time())
                    rows = caller.rows()
                    requests.create_task(request(caller, rows))
                    sent_rows += rows

        async with asyncio.TaskGroup() as senders:
            for caller in callers:
                if not caller.in_turn:
                    senders.create_task(send(caller))
                for _ in range(caller.in_turn):
                    senders.create_task(send_in_turn(caller))
        await batcher.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    return sum(caller.answered_rows for caller in callers) / ROWS_PER_S / seconds
