"""Packs the rows of many requests into batches for the instances of a model, and returns the results.

Only the event loop touches the queue, so there are no locks; only the instances run in threads. Everything is counted
in rows.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from server.errors import DeadlinePassed, InternalError, Unavailable
from server.scheduling.admission import Admission
from server.scheduling.batch import BatchObserver, BatchResult, run_alone, run_batch
from server.scheduling.instances import Instance, InstanceGroups, Share
from server.scheduling.pacing import Pacing
from server.scheduling.queue import DEFAULT_PRIORITY, Entry, Outputs, Part, RowQueue
from server.scheduling.service_times import ServiceTimes
from server.statistics import ModelStatistics

_log = logging.getLogger(__name__)


class Batcher:
    """Runs requests through the instances of a model in batches. Create and use it on one event loop.

    Args:
        groups: the instances.
        max_queue_rows: the most rows that may wait; a request that does not fit completely is refused.
        max_delay_s: how long the oldest row may wait for a fuller batch while an instance is free; None adapts it to
            the load.
        observer: receives the events; by default, new statistics.
        is_lone: returns whether the server has only one request, so that computing it on the event loop delays no
            other.
        name: name of the model, for messages.

    Attributes:
        broken: whether an instance failed on known good rows; nothing is computed until `rebuild`.
        on_broken: called when an instance breaks.
    """

    def __init__(
        self,
        groups: InstanceGroups,
        *,
        max_queue_rows: int,
        max_delay_s: float | None = None,
        observer: BatchObserver | None = None,
        is_lone: Callable[[], bool] = lambda: False,
        name: str = "",
    ) -> None:
        self._groups = groups
        self._pacing = Pacing(max_delay_s)
        self._observer = observer or ModelStatistics()
        self._is_lone = is_lone
        self._broken_text = f"an engine of {name!r} broke and is being rebuilt: try again soon"
        self._name = name
        self._queue = RowQueue(max_queue_rows, name)
        self._in_flight = 0  # requests submitted and not answered
        self._running: dict[Instance, float] = {}  # those that compute a batch, and when they will probably be done
        self._idle = asyncio.Event()
        self._idle.set()
        self._delay_timer: asyncio.TimerHandle | None = None
        self._holds = 0
        self._expects_more = False
        self._draining = False
        self.broken = False
        self.on_broken: Callable[[], object] | None = None
        self._times = ServiceTimes()
        self._admission = Admission(self._queue, self._times, name)
        self._threads = self._make_threads(groups)

    @property
    def queued_rows(self) -> int:
        """Number of waiting rows; may be read in any thread."""
        return self._queue.rows

    @property
    def groups(self) -> InstanceGroups:
        """The instances."""
        return self._groups

    @contextmanager
    def reserve(self, rows: int, deadline: float = math.inf) -> Iterator[None]:
        """Reserves room in the queue while rows are being prepared; `submit` them right after.

        Raises:
            ServerError: refused, as in `submit`.
        """
        self._admit(rows, deadline, DEFAULT_PRIORITY, asyncio.get_running_loop().time())
        self._queue.reserved_rows += rows
        try:
            yield
        finally:
            self._queue.reserved_rows -= rows

    async def submit(
        self,
        inputs: NDArray[Any],
        outputs: frozenset[str],
        deadline: float = math.inf,
        priority: int = DEFAULT_PRIORITY,
    ) -> Outputs:
        """Computes the wanted outputs of inputs (rows, ...), rows >= 1, in their order.

        If the caller is cancelled or its deadline (seconds on the event loop's clock) passes, its waiting rows leave
        the queue at once. The returned arrays may be views of the arrays of a batch.

        Raises:
            ServerError: refused (`QueueFull`, `InvalidRequest`, `Unavailable`), late (`DeadlinePassed`), or failed
                (`InternalError`, `Unavailable` if the engine broke).
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if deadline <= now:
            raise DeadlinePassed("the deadline has passed already: allow more time")
        self._admit(len(inputs), deadline, priority, now)
        if (answer := self._answer_at_once(inputs, outputs)) is not None:
            return answer
        entry = Entry(inputs, outputs, deadline, now, loop.create_future(), priority, self._admission.patience_s)
        self._queue.append(entry)
        self._in_flight += 1
        self._pacing.arrived(now, self._in_flight)
        timer = None
        try:
            self._dispatch()
            if not entry.done.done() and deadline != math.inf:
                timer = loop.call_at(deadline, self._expire, entry)
            return await entry.done
        finally:
            self._in_flight -= 1
            if timer is not None:
                timer.cancel()
            if entry.taken_rows < len(inputs):
                self._queue.remove(entry)

    @property
    def rows_at_once(self) -> int:
        """The most rows that `answer_at_once` computes; 0 for models that are not tiny."""
        return self._groups.limits.inline_rows

    def answer_at_once(self, inputs: NDArray[Any], outputs: frozenset[str], requests: int) -> Outputs | None:
        """Computes the rows of several requests on the event loop, if none waits and nothing speaks against it.

        Args:
            inputs: the rows of all requests, (rows, ...).
            outputs: the outputs that each of them wants.
            requests: how many they are.

        Returns:
            The outputs; None if each request has to be submitted.
        """
        if self._draining or self.broken or self._queue.reserved_rows:
            return None
        return self._answer_at_once(inputs, outputs, requests)

    def expect_more(self) -> None:
        """Starts no batch until the next turn of the event loop, because requests that came together follow."""
        if not self._expects_more:
            self._expects_more = True
            self._holds += 1
            asyncio.get_running_loop().call_soon(self._expect_no_more)

    def _expect_no_more(self) -> None:
        self._expects_more = False
        self._holds -= 1
        self._dispatch()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Starts no batch until the context exits, so that tests can control what is in a batch."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self._dispatch()

    def rebuild(self, groups: InstanceGroups) -> None:
        """Replaces broken instances; batches in progress still finish on the old ones."""
        if groups.concurrency != self._groups.concurrency:
            self._threads.shutdown(wait=False)
            self._threads = self._make_threads(groups)
        self._groups = groups
        self.broken = False
        self._dispatch()

    def fail_waiting(self, reason: str) -> None:
        """Fails all waiting requests with UNAVAILABLE."""
        for entry in list(self._queue):
            entry.fail(Unavailable(reason))
            self._queue.remove(entry)
        self._idle.set()

    async def finish_computing(self) -> None:
        """Returns when no batch is being computed. For a broken batcher, which starts no new ones."""
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    def hurry(self) -> None:
        """Stops waiting for fuller batches, because the server is about to stop."""
        self._pacing.max_delay_s = 0.0
        self._dispatch()

    async def drain(self) -> None:
        """Refuses new requests; returns when the accepted ones are computed."""
        self._draining = True
        self.hurry()
        while self._running or (self._queue and not self.broken):
            self._idle.clear()
            await self._idle.wait()

    async def close(self) -> None:
        """Fails waiting requests, finishes running batches, and stops the threads. Safe to call twice."""
        self.fail_waiting("the server is stopping: try another replica")
        await self.drain()
        self._cancel_timer()
        self._threads.shutdown()
        await asyncio.to_thread(self._groups.close)

    def _make_threads(self, groups: InstanceGroups) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(groups.concurrency, thread_name_prefix=f"engine-{self._name}")

    def _admit(self, rows: int, deadline: float, priority: int, now: float) -> None:
        if self._draining:
            raise Unavailable(f"{self._name!r} is draining: try again, or try another replica")
        if self.broken:
            raise Unavailable(self._broken_text)
        busy_s = 0.0
        if not self._groups.free:
            busy_s = sum(max(0.0, end - now) for end in self._running.values()) / max(len(self._running), 1)
        full_rows = self._groups.full_rows
        self._admission.check(rows, deadline, priority, now=now, busy_s=busy_s, max_batch_rows=full_rows)

    def _request_s(self, rows: int) -> float:
        return self._times.request_s(rows, self._groups.full_rows)

    def _answer_at_once(self, inputs: NDArray[Any], outputs: frozenset[str], requests: int = 1) -> Outputs | None:
        """Fast path: run tiny requests inline if the queue is empty; queueing would cost more than computing them."""
        if self._queue.requests or self._holds or self._pacing.max_delay_s:
            return None
        if (instance := self._groups.inline_instance(len(inputs))) is None:
            return None
        try:
            answer, times = run_alone(instance, inputs, outputs, requests)
        except Exception:  # noqa: BLE001 - it runs again through the queue, which finds the cause
            return None
        for _ in range(requests):
            self._observer.request_waited(0.0)
        self._observer.batch_computed(times)
        return answer

    def _expire(self, entry: Entry) -> None:
        entry.expire(0.0)
        self._queue.remove(entry)

    def _dispatch(self) -> None:
        """Starts batches on free instances; call it whenever a batch may have become possible."""
        while self._queue and self._groups.free and not self._holds and not self.broken:
            now = asyncio.get_running_loop().time()
            if (due := self._delayed_until(now)) is not None:
                if self._delay_timer is None:
                    self._delay_timer = asyncio.get_running_loop().call_at(due, self._on_delay_over)
                return
            self._cancel_timer()
            lone = self._in_flight == 1 and not self._pacing.crowded and self._is_lone()
            shares = self._groups.take(self._queue.rows, lone=lone)
            if not shares:
                return
            for share in shares:
                self._start(share, now)

    def _delayed_until(self, now: float) -> float | None:
        queue = self._queue
        if queue.rows >= self._groups.full_rows:
            return None
        due = self._pacing.wait_until(queue.oldest(), queue.earliest_deadline, self._in_flight)
        return due if due is not None and due > now else None

    def _on_delay_over(self) -> None:
        self._delay_timer = None
        self._pacing.nothing_arrived(self._in_flight)
        self._dispatch()

    def _cancel_timer(self) -> None:
        if self._delay_timer is not None:
            self._delay_timer.cancel()
            self._delay_timer = None

    def _start(self, share: Share, now: float) -> None:
        # A model with nothing else to do tries any request, and learns from it.
        idle = not self._running and self._queue.requests == 1
        parts = self._queue.take(share.rows, now, None if idle else self._request_s)
        if not parts:  # all requests had ended
            self._groups.give_back(share.instance)
            return
        for part in parts:
            if part.start == 0:
                self._observer.request_waited(now - part.entry.enqueued)
        self._running[share.instance] = now + self._times.batch_s(sum(part.rows for part in parts))
        if share.inline:
            self._finish(self._groups, share.instance, parts, run_batch(share.instance, parts))
            return
        self._threads.submit(self._run_in_thread, asyncio.get_running_loop(), self._groups, share.instance, parts)

    def _run_in_thread(
        self, loop: asyncio.AbstractEventLoop, groups: InstanceGroups, instance: Instance, parts: list[Part]
    ) -> None:
        result = run_batch(instance, parts)
        loop.call_soon_threadsafe(self._finish_and_dispatch, groups, instance, parts, result)

    def _finish_and_dispatch(
        self, groups: InstanceGroups, instance: Instance, parts: list[Part], result: BatchResult
    ) -> None:
        self._finish(groups, instance, parts, result)
        self._dispatch()
        if not self._running:
            self._idle.set()

    def _finish(self, groups: InstanceGroups, instance: Instance, parts: list[Part], result: BatchResult) -> None:
        self._running.pop(instance, None)
        groups.give_back(instance)  # not to self._groups, which may be new
        for times in result.times:
            self._observer.batch_computed(times)
            self._times.computed(times.rows, times.compute_s, groups.side_by_side(instance))
        for part, outcome in zip(parts, result.outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._fail(part, outcome, instance_broke=result.instance_broke)
            else:
                part.entry.deliver(part.rows, outcome)
        if result.instance_broke and groups is self._groups and not self.broken:
            self.broken = True
            _log.error("%s: an engine fails on every input, so it is rebuilt", self._name)
            if self.on_broken is not None:
                self.on_broken()

    def _fail(self, part: Part, failure: Exception, *, instance_broke: bool) -> None:
        part.entry.fail(Unavailable(self._broken_text) if instance_broke else InternalError())
        self._queue.remove(part.entry)
        _log.error("%s: a request of %d rows failed", self._name, len(part.entry.inputs), exc_info=failure)
