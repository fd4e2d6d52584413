"""How many replicas a load needs, by simulation of one of them: in a large service each gets a stream of its own."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from benchmarks.scaling.costs import ModelCosts
from benchmarks.scaling.simulation import Prediction, simulate

_STEPS: Final = 7
_LIMITS: Final = 20
_BITS: Final = 8


class Capacity(NamedTuple):
    """What one replica carries within a limit on the latency."""

    rows: int  # of a request
    requests_per_s: float
    limit: str  # what is busiest
    at_limit: Prediction
    planned: Prediction  # at the planned share of that rate

    @property
    def images_per_s(self) -> float:
        """At the planned share."""
        return self.planned.offered_per_s * self.rows


class Need(NamedTuple):
    """What a load needs."""

    images_per_s: float
    replicas: int  # with the spare one
    cores: int
    gbit_per_s: float
    price_per_hour: float
    price_per_million: float


def front_limit_per_s(costs: ModelCosts, rows: int) -> float:
    """Requests per second of the event loop of one process, if computing took no time, as on a fast enough GPU."""
    return 1 / costs.loop.turn(1, rows, is_woken=False)


def find_capacity(costs: ModelCosts, rows: int, p99_limit_ms: float, share: float, requests: int) -> Capacity:
    """Finds the largest rate of requests with `rows` rows that keeps the 99th percentile within the limit.

    Args:
        costs: of the model.
        rows: of each request.
        p99_limit_ms: the limit.
        share: of that rate to plan with.
        requests: the least to simulate for each rate.

    Raises:
        ValueError: even an idle server takes longer.
    """

    def run(rate: float) -> Prediction:
        seconds = max(requests / rate, _LIMITS * p99_limit_ms / 1e3)  # long enough for a backlog to grow past the limit
        return simulate(costs, rate, seconds, rows=rows)

    def fits(found: Prediction) -> bool:
        return not found.refused and found.p99_ms <= p99_limit_ms

    high = costs.cores / costs.row_s / rows  # more than the cores can compute
    high = min(high, 2 * front_limit_per_s(costs, rows))
    low, best = 0.0, run(high * 0.01)
    if not fits(best):
        raise ValueError(f"{costs.model}: {rows} rows take {best.p99_ms:.3g} ms on an idle server: allow more")
    low = high * 0.01
    for _ in range(_STEPS):
        middle = (low + high) / 2
        found = run(middle)
        if fits(found):
            low, best = middle, found
        else:
            high = middle
    return Capacity(rows, low, _busiest(best), best, run(share * low))


def needs(costs: ModelCosts, capacity: Capacity, images_per_s: float, price_per_core_hour: float) -> Need:
    """The replicas for a load, one of them spare, and their price."""
    replicas = math.ceil(images_per_s / capacity.images_per_s) + 1
    cores = replicas * costs.cores
    price = cores * price_per_core_hour
    gbit = images_per_s * costs.answer_bytes * _BITS / 1e9
    return Need(images_per_s, replicas, cores, gbit, price, price / (images_per_s * 3600) * 1e6)


def _busiest(found: Prediction) -> str:
    """The event loop is one thread, so it can be full while cores are idle."""
    return "event loop" if found.loop_busy > found.cores_busy else "cores"
