"""The cores of a simulated machine: all threads that have work share them equally, as the kernel's scheduler does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import simpy

_NOTHING_S: Final = 1e-12


@dataclass(eq=False, slots=True)
class _Work:
    left_s: float
    threads: int
    done: simpy.Event


class Cores:
    """Shares cores among threads. At most `count` threads run at full speed; more of them slow each other down.

    Args:
        environment: the clock.
        count: number of cores.
        beside_factor: how much slower everything is while all cores are busy, because they share caches and memory.
    """

    def __init__(self, environment: simpy.Environment, count: int, beside_factor: float = 1.0) -> None:
        self._environment = environment
        self._count = count
        self._beside_factor = beside_factor
        self._works: list[_Work] = []
        self._seen = environment.now
        self._next: simpy.Event | None = None
        self.busy_core_s = 0.0  # up to the last change

    def work(self, seconds: float, threads: int = 1) -> simpy.Event:
        """Returns an event for the end of `seconds` of work on each of `threads` idle cores."""
        done = self._environment.event()
        if seconds <= 0:
            return done.succeed()
        self._advance()
        self._works.append(_Work(seconds, threads, done))
        self._plan()
        return done

    def _speed(self) -> float:
        busy = sum(work.threads for work in self._works)
        crowd = (min(busy, self._count) - 1) / (self._count - 1) if self._count > 1 else 0.0
        return min(1.0, self._count / busy) / (1 + (self._beside_factor - 1) * crowd)

    def _advance(self) -> None:
        now = self._environment.now
        if self._works and now > self._seen:
            passed_s = now - self._seen
            self.busy_core_s += passed_s * min(self._count, sum(work.threads for work in self._works))
            gained_s = passed_s * self._speed()
            for work in self._works:
                work.left_s -= gained_s
        self._seen = now

    def _plan(self) -> None:
        if not self._works:
            self._next = None
            return
        least_s = min(work.left_s for work in self._works)
        self._next = self._environment.timeout(max(0.0, least_s) / self._speed())
        self._next.callbacks.append(self._end)

    def _end(self, event: Any) -> None:
        if event is not self._next:  # other work came or ended meanwhile
            return
        self._advance()
        first = min(self._works, key=lambda work: work.left_s)
        first.left_s = 0.0  # rounding could leave a little, for ever
        ended = [work for work in self._works if work.left_s <= _NOTHING_S]
        self._works = [work for work in self._works if work.left_s > _NOTHING_S]
        self._plan()
        for work in ended:
            work.done.succeed()
