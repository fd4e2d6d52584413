"""A bounded queue of rows, ordered by priority and age. A request may leave it at any time."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from server.errors import DeadlinePassed, InvalidRequest, QueueFull, ServerError

PRIORITY_LEVELS: Final = 3  # 1 goes first
DEFAULT_PRIORITY: Final = 2
PRIORITY_STEP_S: Final = 1.0  # one level of priority is worth this much waiting

Outputs = dict[str, NDArray[Any]]  # by output name; the first axis of each is the rows


@dataclass(eq=False, slots=True)
class Entry:
    """One request; it stays in the queue until all its rows are taken."""

    inputs: NDArray[Any]  # (rows, ...)
    outputs: frozenset[str]
    deadline: float  # seconds on the event loop's clock
    enqueued: float
    done: asyncio.Future[Outputs]
    priority: int = DEFAULT_PRIORITY
    taken_rows: int = 0
    finished_rows: int = 0
    gathered: Outputs = field(default_factory=dict)  # results of a split request, filled in by the threads

    @property
    def urgency(self) -> float:
        """Sort key; the smallest goes first. It includes the age, so that no request starves."""
        return self.enqueued + self.priority * PRIORITY_STEP_S

    def deliver(self, rows: int, outputs: Outputs) -> None:
        """Counts finished rows; with the last of them, completes the request with `outputs`."""
        self.finished_rows += rows
        if self.finished_rows == len(self.inputs) and not self.done.done():
            self.done.set_result(outputs)

    def fail(self, error: ServerError) -> None:
        """Fails the request unless it has ended already."""
        if not self.done.done():
            self.done.set_exception(error)

    def expire(self) -> None:
        """Fails the request because its deadline has passed."""
        self.fail(DeadlinePassed("the deadline passed before the rows were computed: allow more time, or send fewer"))


class Part(NamedTuple):
    """The rows of an entry in one batch."""

    entry: Entry
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def whole(self) -> bool:
        """Whether the part holds all rows of the entry."""
        return self.rows == len(self.entry.inputs)

    @property
    def inputs(self) -> NDArray[Any]:
        """Shape (rows, ...)."""
        return self.entry.inputs if self.whole else self.entry.inputs[self.start : self.stop]


class RowQueue:
    """A bounded queue of requests, counted in rows; within a priority, first in first out.

    Args:
        max_rows: the most rows that may wait.
        name: name of the model, for messages.
    """

    def __init__(self, max_rows: int, name: str) -> None:
        self._max_rows = max_rows
        self._name = name
        # One per priority; any entry can leave in constant time.
        self._levels: tuple[OrderedDict[Entry, None], ...] = tuple(OrderedDict() for _ in range(PRIORITY_LEVELS))
        self.rows = 0
        self.requests = 0
        self.reserved_rows = 0  # for requests whose rows are still being prepared
        self._deadlines: list[float] = []  # a heap; includes entries that have left
        self._left_deadlines: list[float] = []  # a heap of the deadlines of those

    def __bool__(self) -> bool:
        return self.requests > 0

    def __iter__(self) -> Iterator[Entry]:
        for level in self._levels:
            yield from level

    def check_room(self, rows: int, milliseconds_for: Callable[[int], int] | None = None) -> None:
        """Checks that a request fits completely.

        Args:
            rows: rows of the request.
            milliseconds_for: estimates the time for a number of waiting rows.

        Raises:
            InvalidRequest: it can never fit.
            QueueFull: it does not fit now.
        """
        if rows > self._max_rows:
            raise InvalidRequest(
                f"{rows} rows are more than the queue can hold ({self._max_rows}): ask for fewer per request"
            )
        taken = self.rows + self.reserved_rows
        if taken + rows > self._max_rows:
            raise QueueFull(
                f"the queue of {self._name!r} is full ({taken} of {self._max_rows} rows wait,"
                f" {rows} more do not fit): try again after a pause",
                milliseconds_for(taken) if milliseconds_for is not None else None,
            )

    def append(self, entry: Entry) -> None:
        """Adds a request at the end of its priority; call `check_room` first."""
        self._levels[entry.priority - 1][entry] = None
        self.rows += len(entry.inputs)
        self.requests += 1
        if entry.deadline != math.inf:
            heappush(self._deadlines, entry.deadline)

    @property
    def earliest_deadline(self) -> float:
        """The earliest deadline of all waiting rows."""
        while self._left_deadlines and self._left_deadlines[0] == self._deadlines[0]:
            heappop(self._left_deadlines)
            heappop(self._deadlines)
        return self._deadlines[0] if self._deadlines else math.inf

    def oldest(self) -> float:
        """Arrival of the oldest row; the queue must not be empty."""
        return min(next(iter(level)).enqueued for level in self._levels if level)

    def remove(self, entry: Entry) -> None:
        """Removes the waiting rows of a request, if any."""
        level = self._levels[entry.priority - 1]
        if entry in level:
            del level[entry]
            self.rows -= len(entry.inputs) - entry.taken_rows
            self._left(entry)

    def take(self, max_rows: int, now: float) -> list[Part]:
        """Takes the most urgent rows for one batch, splitting the last request if it does not fit.

        Drops requests that have ended: expired, cancelled, or failed in an earlier part.
        """
        parts: list[Part] = []
        room = max_rows
        while room and self.requests:
            level = self._most_urgent()
            entry = next(iter(level))
            if entry.deadline <= now:
                entry.expire()
            if entry.done.done():
                self.remove(entry)
                continue
            start = entry.taken_rows
            stop = entry.taken_rows = min(len(entry.inputs), start + room)
            self.rows -= stop - start
            room -= stop - start
            if stop == len(entry.inputs):
                del level[entry]
                self._left(entry)
            parts.append(Part(entry, start, stop))
        return parts

    def _most_urgent(self) -> OrderedDict[Entry, None]:
        levels = [level for level in self._levels if level]
        return levels[0] if len(levels) == 1 else min(levels, key=lambda level: next(iter(level)).urgency)

    def _left(self, entry: Entry) -> None:
        self.requests -= 1
        if entry.deadline != math.inf:
            heappush(self._left_deadlines, entry.deadline)
        if not self.requests:
            self._deadlines.clear()
            self._left_deadlines.clear()
