"""What is put on a server: so many requests at a time, or so many a second; and when the latter are due."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Arrivals: TypeAlias = Literal["poisson", "constant"]


@dataclass(frozen=True)
class ClosedLoad:
    """`concurrency` callers, each of whom sends the next request when the last one is answered."""

    rows: int
    concurrency: int

    def __str__(self) -> str:
        return f"closed {self.concurrency}"


@dataclass(frozen=True)
class OpenLoad:
    """`rate_per_s` requests a second, whatever has been answered."""

    rows: int
    rate_per_s: float
    arrivals: Arrivals

    def __str__(self) -> str:
        return f"open {self.rate_per_s:g}/s"


Load: TypeAlias = ClosedLoad | OpenLoad


def due_times_s(load: OpenLoad, seconds: float) -> Iterator[float]:
    """When requests are due, within 0 .. `seconds`; the same every time, so that every server meets the same bursts.

    Poisson arrivals are those of independent users: the gaps between them are exponential.
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
