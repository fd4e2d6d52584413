"""Packs the rows of many requests into batches for an engine, and deals the results out again.

It knows a callable and nothing of gRPC, runtimes or models. The event loop alone owns the queue, so there are no
locks; only the callable runs in threads. Everything is counted in rows. A lone request is dispatched at once, and
batches form by themselves while the engine is busy.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from server.errors import DeadlinePassed, InternalError, Unavailable
from server.row_queue import Entry, Outputs, Part, RowQueue

Run = Callable[[NDArray[Any], frozenset[str]], Outputs]

_log = logging.getLogger(__name__)


class BatchObserver(Protocol):
    """What a batcher tells about itself, on the event loop."""

    def queue_changed(self, rows: int) -> None:
        """So many rows wait now."""

    def request_waited(self, seconds: float) -> None:
        """The first rows of a request left the queue after so long."""

    def batch_computed(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took so long."""


class Unobserved:
    """The observer of a batcher that nobody watches."""

    def queue_changed(self, rows: int) -> None:
        """Ignored."""

    def request_waited(self, seconds: float) -> None:
        """Ignored."""

    def batch_computed(self, rows: int, seconds: float) -> None:
        """Ignored."""


class Batcher:
    """Runs requests through `run` in batches. To be made and used on one event loop.

    Args:
        run: maps inputs (rows, ...) and the wanted output names to those outputs, each of as many rows. All rows must
            be of one shape and dtype. Called in a thread, at most `concurrency` times at once.
        max_batch_rows: the most rows that one call of `run` gets; larger requests are split and put together again.
        max_queue_rows: the most rows that may wait; a request that does not fit as a whole is refused.
        max_queue_delay_s: how long the oldest row may wait for a fuller batch although an engine is free.
        concurrency: how many calls of `run` may go on at once.
        observer: told what happens.
        name: of the model, for messages.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        max_queue_delay_s: float = 0.0,
        concurrency: int = 1,
        observer: BatchObserver | None = None,
        name: str = "",
    ) -> None:
        self._run = run
        self._max_batch_rows = max_batch_rows
        self._max_queue_delay_s = max_queue_delay_s
        self._observer = observer or Unobserved()
        self._name = name
        self._queue = RowQueue(max_queue_rows, name, self._observer.queue_changed)
        self._free_engines = concurrency
        self._running: set[asyncio.Task[None]] = set()
        self._delay_timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix=f"engine-{name}")

    @property
    def queued_rows(self) -> int:
        """How many rows wait."""
        return self._queue.rows

    @contextmanager
    def reserve(self, rows: int) -> Iterator[None]:
        """Keeps room in the queue while rows are being made; `submit` them as soon as it is left.

        Raises:
            ServerError: refused, as by `submit`.
        """
        self._check_room(rows)
        self._queue.reserved_rows += rows
        try:
            yield
        finally:
            self._queue.reserved_rows -= rows

    async def submit(self, inputs: NDArray[Any], outputs: frozenset[str], deadline: float = math.inf) -> Outputs:
        """Computes the wanted outputs of inputs (rows, ...), rows >= 1, in their order.

        Cancelling the caller, or passing its deadline (of the event loop's clock, in seconds), takes what still waits
        out of the queue at once. The arrays may be views of a batch's.

        Raises:
            ServerError: refused (`QueueFull`, `InvalidRequest`, `Unavailable`), late (`DeadlinePassed`), or failed
                (`InternalError`).
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if deadline <= now:
            raise DeadlinePassed("the deadline has passed already: allow more time")
        self._check_room(len(inputs))
        entry = Entry(inputs, outputs, deadline, now, loop.create_future())
        self._queue.append(entry)
        self._dispatch()
        timer = None if math.isinf(deadline) else loop.call_at(deadline, self._expire, entry)
        try:
            await entry.done
        finally:
            if timer is not None:
                timer.cancel()
            self._queue.remove(entry)
        if len(entry.results) == 1:
            return entry.results[0]
        return await asyncio.to_thread(_join, entry.results)

    def hurry(self) -> None:
        """Delays nothing any more; for a server that is about to stop."""
        self._max_queue_delay_s = 0.0
        self._dispatch()

    async def drain(self) -> None:
        """Refuses new requests from now on, and returns when the accepted ones are computed."""
        self._draining = True
        self.hurry()
        while self._running:
            await asyncio.wait(self._running)

    async def close(self) -> None:
        """Fails what waits, lets what runs end, and stops the threads. Safe to call twice."""
        for entry in list(self._queue):
            entry.fail(Unavailable("the server is stopping: try another replica"))
            self._queue.remove(entry)
        await self.drain()
        if self._delay_timer is not None:
            self._delay_timer.cancel()
        self._threads.shutdown()

    def _check_room(self, rows: int) -> None:
        if self._draining:
            raise Unavailable(f"{self._name!r} is draining: try again, or try another replica")
        self._queue.check_room(rows)

    def _expire(self, entry: Entry) -> None:
        entry.expire()
        self._queue.remove(entry)

    def _dispatch(self) -> None:
        """Hands batches to free engines; called whenever one may have become possible."""
        while self._free_engines and self._queue:
            loop = asyncio.get_running_loop()
            now = loop.time()
            if (due := self._delayed_until(now)) is not None:
                if self._delay_timer is None:
                    self._delay_timer = loop.call_at(due, self._on_delay_over)
                return
            if parts := self._queue.take(self._max_batch_rows, now):
                for part in parts:
                    if part.start == 0:
                        self._observer.request_waited(now - part.entry.enqueued)
                self._free_engines -= 1
                task = loop.create_task(self._compute(parts))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def _on_delay_over(self) -> None:
        self._delay_timer = None
        self._dispatch()

    def _delayed_until(self, now: float) -> float | None:
        """Until when a fuller batch is worth waiting for; None if one should go now."""
        if not self._max_queue_delay_s or self._queue.rows >= self._max_batch_rows:
            return None
        due = next(iter(self._queue)).enqueued + self._max_queue_delay_s
        # Waiting right up to a deadline would only waste the rows, so a request in a hurry takes the others along.
        if due <= now or any(entry.deadline <= due for entry in self._queue):
            return None
        return due

    async def _compute(self, parts: list[Part]) -> None:
        try:
            failure = await self._try_compute(parts)
            if failure is None:
                return
            if len(parts) == 1:
                self._fail(parts[0], failure)
                return
            _log.warning("%s: a batch of %d requests failed, so each is run alone", self._name, len(parts))
            for part in parts:
                if not part.entry.done.done() and (failure := await self._try_compute([part])) is not None:
                    self._fail(part, failure)
        finally:
            self._free_engines += 1
            self._dispatch()

    def _fail(self, part: Part, failure: Exception) -> None:
        _log.error("%s: a request of %d rows failed", self._name, len(part.entry.inputs), exc_info=failure)
        part.entry.fail(InternalError())

    async def _try_compute(self, parts: list[Part]) -> Exception | None:
        """Runs parts as one batch and deals out the results; returns the error instead if there was one."""
        loop = asyncio.get_running_loop()
        try:
            results, seconds = await loop.run_in_executor(self._threads, self._run_timed, parts)
        except Exception as error:  # noqa: BLE001 - whatever the engine raises concerns this batch alone
            return error
        self._observer.batch_computed(sum(part.rows for part in parts), seconds)
        for part, result in zip(parts, results, strict=True):
            part.entry.deliver(part.start, part.rows, result)
        return None

    def _run_timed(self, parts: list[Part]) -> tuple[list[Outputs], float]:
        """Runs in a thread, so it touches nothing that the event loop changes."""
        began = time.perf_counter()
        inputs = parts[0].inputs if len(parts) == 1 else np.concatenate([part.inputs for part in parts])
        batch = self._run(inputs, frozenset().union(*(part.entry.outputs for part in parts)))
        if any(len(array) != len(inputs) for array in batch.values()):
            raise RuntimeError(f"the engine answered {len(inputs)} rows with another number of rows")
        results: list[Outputs] = []
        first = 0
        for part in parts:
            results.append({name: batch[name][first : first + part.rows] for name in part.entry.outputs})
            first += part.rows
        return results, time.perf_counter() - began


def _join(results: dict[int, Outputs]) -> Outputs:
    """Puts a split request together again, in the order of its rows."""
    ordered = [results[first_row] for first_row in sorted(results)]
    return {name: np.concatenate([result[name] for result in ordered]) for name in ordered[0]}
