"""One simulated server on one machine. Batches are formed by the server's own rules: its Pacing and InstanceGroups."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import simpy

from benchmarks.scaling.cores import Cores
from benchmarks.scaling.costs import ModelCosts, ThreadCosts
from benchmarks.scaling.thread import Steps, TurnThread
from server.scheduling.instances import GroupLimits, Instance, InstanceGroups, Share
from server.scheduling.pacing import Pacing

_BURST_REQUESTS: Final = 32  # the front takes 64 events per turn, and a request has two before it is answered
_ANY: Final = 1_000_000


@dataclass(eq=False, slots=True)
class SimulatedRequest:
    """A request; times are those of the simulation, in seconds."""

    rows: int
    due: float
    enqueued: float = 0.0
    taken_rows: int = 0
    finished_rows: int = 0
    is_answered: bool = False


@dataclass(eq=False, slots=True)
class _Finished:
    """A batch that an engine has computed: how many rows of which requests."""

    instance: Instance
    parts: list[tuple[SimulatedRequest, int]]


class _Timer:
    """The wait for a fuller batch is over."""


class Replica:
    """A server.

    Args:
        environment: the clock.
        costs: of the model.
        max_batch_rows: see `--max-batch-size`.
        max_queue_rows: see `--max-queue-rows`; a request that does not fit is refused.
        max_delay_s: see `--max-queue-delay-us`; None adapts the wait.
        with_client: whether the load generator runs on the same cores.
        on_end: called with each request when it is answered or refused.
    """

    def __init__(
        self,
        environment: simpy.Environment,
        costs: ModelCosts,
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        max_delay_s: float | None,
        with_client: bool,
        on_end: Callable[[SimulatedRequest], None],
    ) -> None:
        self._environment = environment
        self._costs = costs
        self._max_queue_rows = max_queue_rows
        self._on_end = on_end
        self.cores = Cores(environment, costs.cores, costs.beside_factor)
        self._pacing = Pacing(max_delay_s)
        self._groups = _instance_groups(costs, max_batch_rows)
        self._waiting: deque[SimulatedRequest] = deque()
        self._waiting_rows = 0
        self._in_flight = 0
        self._timer: simpy.Event | None = None
        self.batches = self.batch_rows = 0
        self.engine_busy_s = 0.0
        self._client = TurnThread(environment, self._client_turn, _ANY) if with_client else None
        self._network = TurnThread(environment, self._network_turn, _ANY)
        self.loop = TurnThread(environment, self._loop_turn, _BURST_REQUESTS)

    def send(self, request: SimulatedRequest) -> None:
        """A request is due."""
        if self._client is not None:
            self._client.put(request)
        else:
            self._network.put(request)

    def _thread_work(self, costs: ThreadCosts, requests: list[SimulatedRequest], *, is_woken: bool) -> simpy.Event:
        rows = sum(request.rows for request in requests)
        return self.cores.work(costs.turn(len(requests), rows, is_woken=is_woken))

    def _client_turn(self, requests: list[SimulatedRequest], is_woken: bool) -> Steps:
        yield self.cores.work(
            self._costs.client.turn(len(requests), sum(request.rows for request in requests), is_woken=is_woken)
        )
        for request in requests:
            if request.is_answered:
                self._on_end(request)
            else:
                self._network.put(request)

    def _network_turn(self, requests: list[SimulatedRequest], is_woken: bool) -> Steps:
        yield self.cores.work(
            self._costs.network.turn(len(requests), sum(request.rows for request in requests), is_woken=is_woken)
        )
        for request in requests:
            self.loop.put(request)

    def _loop_turn(self, items: list[SimulatedRequest | _Finished | _Timer], is_woken: bool) -> Steps:
        requests = [item for item in items if isinstance(item, SimulatedRequest)]
        yield self.cores.work(
            self._costs.loop.turn(len(requests), sum(request.rows for request in requests), is_woken=is_woken)
        )
        for item in items:
            if isinstance(item, _Finished):
                self._finish(item)
            elif isinstance(item, _Timer):
                self._timer = None
                self._pacing.nothing_arrived(self._in_flight)
        yield from self._answer_at_once(requests)
        yield from self._dispatch()

    def _answer_at_once(self, requests: list[SimulatedRequest]) -> Steps:
        """Computes tiny requests on the event loop, together; queues the others."""
        together: list[SimulatedRequest] = []
        for place, request in enumerate(requests):
            rows = sum(each.rows for each in together) + request.rows
            is_last = place == len(requests) - 1
            if not self._waiting and self._groups.inline_instance(rows) is not None and not self._pacing.max_delay_s:
                together.append(request)
            else:
                self._enqueue(request)
            full = rows + request.rows > self._costs.inline_rows
            if together and (full or is_last):
                yield from self._compute_inline([(each, each.rows) for each in together])
                together = []

    def _enqueue(self, request: SimulatedRequest) -> None:
        if self._waiting_rows + request.rows > self._max_queue_rows:
            self._on_end(request)
            return
        request.enqueued = self._environment.now
        self._waiting.append(request)
        self._waiting_rows += request.rows
        self._in_flight += 1
        self._pacing.arrived(self._environment.now, self._in_flight)

    def _dispatch(self) -> Steps:
        while self._waiting and self._groups.free:
            now = self._environment.now
            due = None
            if self._waiting_rows < self._groups.full_rows:
                due = self._pacing.wait_until(self._waiting[0].enqueued, float("inf"), self._in_flight)
            if due is not None and due > now:
                if self._timer is None:
                    self._timer = self._environment.timeout(due - now)
                    self._timer.callbacks.append(self._on_delay_over)
                return
            self._timer = None
            lone = self._in_flight == 1 and not self._pacing.crowded
            for share in self._groups.take(self._waiting_rows, lone=lone):
                yield from self._start(share)

    def _start(self, share: Share) -> Steps:
        parts = self._take(share.rows)
        if share.inline:
            yield from self._compute_inline(parts, share.instance)
            self._finish(_Finished(share.instance, parts))
        else:
            self._environment.process(self._compute_in_thread(share.instance, parts))

    def _on_delay_over(self, event: Any) -> None:
        if event is self._timer:
            self.loop.put(_Timer())

    def _take(self, most: int) -> list[tuple[SimulatedRequest, int]]:
        parts = []
        while most and self._waiting:
            request = self._waiting[0]
            rows = min(most, request.rows - request.taken_rows)
            request.taken_rows += rows
            self._waiting_rows -= rows
            most -= rows
            parts.append((request, rows))
            if request.taken_rows == request.rows:
                self._waiting.popleft()
        return parts

    def _compute_inline(self, parts: list[tuple[SimulatedRequest, int]], instance: Instance | None = None) -> Steps:
        yield self._compute(instance, parts)
        if instance is None:  # never queued
            for request, _ in parts:
                self._answer(request)

    def _compute_in_thread(self, instance: Instance, parts: list[tuple[SimulatedRequest, int]]) -> Steps:
        began = self._environment.now
        yield self._compute(instance, parts)
        self.engine_busy_s += self._environment.now - began
        self.loop.put(_Finished(instance, parts))

    def _compute(self, instance: Instance | None, parts: list[tuple[SimulatedRequest, int]]) -> simpy.Event:
        rows = sum(each for _, each in parts)
        self.batches += 1
        self.batch_rows += rows
        if instance is not None and instance.group == "wide":
            return self.cores.work(rows * self._costs.wide_s, instance.cores)
        return self.cores.work(self._costs.compute_s(rows))

    def _finish(self, finished: _Finished) -> None:
        self._groups.give_back(finished.instance)
        for request, rows in finished.parts:
            request.finished_rows += rows
            if request.finished_rows == request.rows:
                self._in_flight -= 1
                self._answer(request)

    def _answer(self, request: SimulatedRequest) -> None:
        request.is_answered = True
        if self._client is not None:
            self._client.put(request)
        else:
            self._on_end(request)


def _instance_groups(costs: ModelCosts, max_batch_rows: int) -> InstanceGroups:
    narrow = [
        Instance("narrow", _never, max_rows=max_batch_rows, quick_rows=costs.quick_rows) for _ in range(costs.engines)
    ]
    wide = None
    if costs.wide_rows:
        wide = Instance("wide", _never, cores=costs.cores, max_rows=max_batch_rows, quick_rows=costs.quick_rows)
    limits = GroupLimits(costs.inline_rows, costs.min_share_rows, costs.wide_rows)
    return InstanceGroups(narrow, wide=wide, limits=limits)


def _never(*_: object) -> Any:
    raise AssertionError("the simulation computes no images")
