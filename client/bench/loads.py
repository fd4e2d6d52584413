"""The loads to apply to a server: a fixed number of concurrent requests, or a fixed request rate."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Arrivals: TypeAlias = Literal["poisson", "constant"]


@dataclass(frozen=True)
class ClosedLoad:
    """A closed loop: `concurrency` callers, each sending its next request when the last one is answered."""

    rows: int
    concurrency: int

    def __str__(self) -> str:
        return f"closed {self.concurrency}"


@dataclass(frozen=True)
class OpenLoad:
    """An open loop: `rate_per_s` requests per second, however slow the responses."""

    rows: int
    rate_per_s: float
    arrivals: Arrivals

    def __str__(self) -> str:
        return f"open {self.rate_per_s:g}/s"


Load: TypeAlias = ClosedLoad | OpenLoad


def due_times_s(load: OpenLoad, seconds: float) -> Iterator[float]:
    """Yields the times in 0 .. `seconds` at which requests are due; deterministic, so all servers see the same bursts.

    Poisson arrivals model independent users: the gaps between requests are exponentially distributed.
    """
    generator = random.Random(0)
    due_s, number = 0.0, 0
    while True:
        number += 1
        if load.arrivals == "poisson":
            due_s += generator.expovariate(load.rate_per_s)
        else:
            due_s = (number - 1) / load.rate_per_s
        if due_s >= seconds:
            return
        yield due_s
