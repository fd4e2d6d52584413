"""A simulated thread that works in turns."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import simpy

_Item = TypeVar("_Item")
Steps = Generator[simpy.Event, Any, None]


class TurnThread(Generic[_Item]):
    """Takes what has come since its last turn, works for a while, and hands it on.

    Args:
        environment: the clock.
        turn: does the work of a turn; its second argument says whether the thread slept before.
        most: the most items of one turn.
    """

    def __init__(self, environment: simpy.Environment, turn: Callable[[list[_Item], bool], Steps], most: int) -> None:
        self._environment = environment
        self._turn = turn
        self._most = most
        self._inbox: list[_Item] = []
        self._wake: simpy.Event | None = None
        self.busy_s = 0.0
        environment.process(self._run())

    def put(self, item: _Item) -> None:
        """Hands over an item."""
        self._inbox.append(item)
        if self._wake is not None:
            self._wake.succeed()
            self._wake = None

    def _run(self) -> Steps:
        while True:
            is_woken = not self._inbox
            if is_woken:
                self._wake = self._environment.event()
                yield self._wake
            items, self._inbox = self._inbox[: self._most], self._inbox[self._most :]
            began = self._environment.now
            yield from self._turn(items, is_woken)
            self.busy_s += self._environment.now - began
