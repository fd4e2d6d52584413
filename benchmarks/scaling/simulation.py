"""Simulates replicas of the server under a Poisson stream of requests."""

from __future__ import annotations

import math
import random
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import simpy

from benchmarks.scaling.costs import ModelCosts
from benchmarks.scaling.replica import Replica, SimulatedRequest
from ganserve.bundle import MAX_BATCH_ROWS
from server.config import ServerConfig

_WARM_UP_SHARE = 0.1
_DRAIN_S = 5.0


class Prediction(NamedTuple):
    """What the simulation found, without its warm-up. Latencies count from the time a request was due."""

    offered_per_s: float
    answered_per_s: float
    refused: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    mean_in_system: float  # requests that are due and not answered
    batch_rows: float
    cores_busy: float  # share of all cores
    engines_busy: float
    loop_busy: float  # of the busiest replica's event loop


class _Observer:
    """Notes what happens to requests between `opens` and `closes`."""

    def __init__(self, environment: simpy.Environment, opens: float, closes: float) -> None:
        self._environment = environment
        self._opens, self._closes = opens, closes
        self.latencies_s: list[float] = []
        self.sent = self.refused = self.ended_inside = 0
        self.request_s = 0.0  # time that requests spent here, between `opens` and `closes`

    def due(self, request: SimulatedRequest) -> None:
        self.sent += self._opens <= request.due < self._closes

    def end(self, request: SimulatedRequest) -> None:
        now = self._environment.now
        self.request_s += max(0.0, min(now, self._closes) - max(request.due, self._opens))
        self.ended_inside += request.is_answered and self._opens <= now < self._closes
        if not self._opens <= request.due < self._closes:
            return
        if request.is_answered:
            self.latencies_s.append(now - request.due)
        else:
            self.refused += 1


def simulate(
    costs: ModelCosts,
    rate_per_s: float,
    seconds: float,
    *,
    rows: int = 1,
    replicas: int = 1,
    with_client: bool = False,
    max_batch_rows: int = MAX_BATCH_ROWS,
    max_queue_rows: int = ServerConfig.max_queue_rows,
    max_delay_s: float | None = None,
    seed: int = 0,
) -> Prediction:
    """Simulates `replicas` equal servers, each on a machine of its own.

    Args:
        costs: of the model on such a machine.
        rate_per_s: requests per second, of all replicas together; each goes to a random replica.
        seconds: simulated time; its first tenth is the warm-up.
        rows: of each request.
        replicas: number of servers.
        with_client: whether the load generator shares the cores of the server, as in measurements on one machine.
        max_batch_rows: see `--max-batch-size`.
        max_queue_rows: see `--max-queue-rows`.
        max_delay_s: see `--max-queue-delay-us`; None adapts the wait to the load.
        seed: of the arrivals.
    """
    environment = simpy.Environment()
    opens = seconds * _WARM_UP_SHARE
    observer = _Observer(environment, opens, seconds)
    nodes = [
        Replica(
            environment,
            costs,
            max_batch_rows=max_batch_rows,
            max_queue_rows=max_queue_rows,
            max_delay_s=max_delay_s,
            with_client=with_client,
            on_end=observer.end,
        )
        for _ in range(replicas)
    ]
    environment.process(_arrivals(environment, nodes, observer, rate_per_s, rows, seconds, seed))
    environment.run(until=opens)
    before = _totals(nodes)
    environment.run(until=seconds)
    batches, batch_rows, core_s, engine_s = (after - at for after, at in zip(_totals(nodes), before, strict=True))
    loop_busy = max(node.loop.busy_s for node in nodes) / seconds
    environment.run(until=seconds + _DRAIN_S)
    window_s = seconds - opens
    latencies_ms = 1e3 * np.array(observer.latencies_s)
    p50, p99 = map(float, np.percentile(latencies_ms, (50, 99))) if len(latencies_ms) else (math.nan, math.nan)
    return Prediction(
        offered_per_s=observer.sent / window_s,
        answered_per_s=observer.ended_inside / window_s,
        refused=observer.refused,
        mean_ms=float(latencies_ms.mean()) if len(latencies_ms) else math.nan,
        p50_ms=p50,
        p99_ms=p99,
        mean_in_system=observer.request_s / window_s,
        batch_rows=batch_rows / batches if batches else math.nan,
        cores_busy=core_s / (window_s * costs.cores * replicas),
        engines_busy=engine_s / (window_s * costs.engines * replicas),
        loop_busy=loop_busy,
    )


def _arrivals(
    environment: simpy.Environment,
    nodes: list[Replica],
    observer: _Observer,
    rate_per_s: float,
    rows: int,
    seconds: float,
    seed: int,
) -> Generator[simpy.Event, Any, None]:
    generator = random.Random(seed)
    while True:
        yield environment.timeout(generator.expovariate(rate_per_s))
        if environment.now >= seconds:
            return
        request = SimulatedRequest(rows, environment.now)
        observer.due(request)
        generator.choice(nodes).send(request)


def _totals(nodes: list[Replica]) -> tuple[float, float, float, float]:
    return (
        sum(node.batches for node in nodes),
        sum(node.batch_rows for node in nodes),
        sum(node.cores.busy_core_s for node in nodes),
        sum(node.engine_busy_s for node in nodes),
    )
