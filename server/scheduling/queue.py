"""A bounded queue of rows, ordered by priority, deadline and age. A request may leave it at any time."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from operator import attrgetter
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from server.errors import DeadlinePassed, InvalidRequest, QueueFull, ServerError

PRIORITY_LEVELS: Final = 3  # 1 goes first
DEFAULT_PRIORITY: Final = 2
# One level of priority is worth this much waiting, and so is, within a level, the tightest deadline against none.
PRIORITY_STEP_S: Final = 5.0

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
    patience_s: float = PRIORITY_STEP_S  # see `urgency_of`
    taken_rows: int = 0
    finished_rows: int = 0
    gathered: Outputs = field(default_factory=dict)  # results of a split request, filled in by the threads
    order: tuple[float, int] = field(init=False)  # the smallest goes first

    def __post_init__(self) -> None:
        self.order = (urgency_of(self.enqueued, self.deadline, self.priority, self.patience_s), next(_numbers))

    @property
    def waiting_rows(self) -> int:
        """Number of rows that are not in a batch yet."""
        return len(self.inputs) - self.taken_rows

    def deliver(self, rows: int, outputs: Outputs) -> None:
        """Counts finished rows; with the last of them, completes the request with `outputs`."""
        self.finished_rows += rows
        if self.finished_rows == len(self.inputs) and not self.done.done():
            self.done.set_result(outputs)

    def fail(self, error: ServerError) -> None:
        """Fails the request unless it has ended already."""
        if not self.done.done():
            self.done.set_exception(error)

    def expire(self, left_s: float) -> None:
        """Fails the request because its deadline passed, or will pass in `left_s` seconds, before it is computed."""
        passes = "would pass" if left_s > 0 else "passed"
        self.fail(
            DeadlinePassed(f"the deadline {passes} before the rows were computed: allow more time, or send fewer")
        )


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
    """A bounded queue of requests, counted in rows.

    Args:
        max_rows: the most rows that may wait.
        name: name of the model, for messages.
    """

    def __init__(self, max_rows: int, name: str) -> None:
        self.max_rows = max_rows
        self._name = name
        self._entries: list[Entry] = []  # sorted by their order
        self._level_rows = [0] * PRIORITY_LEVELS
        self.rows = 0
        self.reserved_rows = 0  # for requests whose rows are still being prepared

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @property
    def requests(self) -> int:
        """Number of waiting requests."""
        return len(self._entries)

    def check_room(self, rows: int, retry_after_ms: Callable[[int], int] | None = None) -> None:
        """Checks that a request fits completely.

        Args:
            rows: rows of the request.
            retry_after_ms: estimates the time for a number of waiting rows.

        Raises:
            InvalidRequest: it can never fit.
            QueueFull: it does not fit now.
        """
        if rows > self.max_rows:
            raise InvalidRequest(
                f"{rows} rows are more than the queue can hold ({self.max_rows}): ask for fewer per request"
            )
        taken = self.rows + self.reserved_rows
        if taken + rows > self.max_rows:
            raise QueueFull(
                f"the queue of {self._name!r} is full ({taken} of {self.max_rows} rows wait,"
                f" {rows} more do not fit): try again after a pause",
                retry_after_ms(taken) if retry_after_ms is not None else None,
            )

    def append(self, entry: Entry) -> None:
        """Adds a request; call `check_room` first."""
        insort(self._entries, entry, key=_order)
        self._count(entry, len(entry.inputs))

    def rows_up_to(self, priority: int) -> int:
        """Number of waiting rows of this priority or a higher one (a smaller number)."""
        return sum(self._level_rows[:priority])

    def rows_before(self, urgency: float) -> int:
        """Number of waiting rows that would go before a new request; takes time for each of those requests."""
        last = bisect_left(self._entries, (urgency, math.inf), key=_order)
        return sum(entry.waiting_rows for entry in self._entries[:last])

    @property
    def earliest_deadline(self) -> float:
        """The earliest deadline of all waiting rows."""
        return min((entry.deadline for entry in self._entries), default=math.inf)

    def oldest(self) -> float:
        """Arrival of the oldest row; the queue must not be empty."""
        return min(entry.enqueued for entry in self._entries)

    def remove(self, entry: Entry) -> None:
        """Removes the waiting rows of a request, if any."""
        index = bisect_left(self._entries, entry.order, key=_order)
        if index < len(self._entries) and self._entries[index] is entry:
            del self._entries[index]
            self._count(entry, -entry.waiting_rows)

    def take(self, max_rows: int, now: float, seconds_for: Callable[[int], float] | None = None) -> list[Part]:
        """Takes the most urgent rows for one batch, splitting the last request if it does not fit.

        Drops requests that have ended (expired, cancelled, or failed in an earlier part) or cannot be computed before
        their deadline, and ends the batch early if more rows would make it too late for those it has.

        Args:
            max_rows: the most rows to take.
            now: the time, on the clock of the deadlines.
            seconds_for: estimates the time to compute a number of rows; None computes whatever has not expired.
        """
        parts: list[Part] = []
        room, earliest = max_rows, math.inf
        estimate = seconds_for or _instantly
        full_s = estimate(max_rows)
        while room and self._entries:
            entry = self._entries[0]
            rows, left_s = entry.waiting_rows, entry.deadline - now
            # Most deadlines are later than the end of a full batch, so that nothing else is estimated.
            if left_s <= 0 or ((left_s < full_s or rows > max_rows) and left_s < estimate(rows)):
                entry.expire(left_s)
            if entry.done.done():
                self.remove(entry)
                continue
            taken, start = min(rows, room), entry.taken_rows
            earliest = min(earliest, left_s)
            if parts and earliest < full_s and earliest < estimate(max_rows - room + taken):
                break
            entry.taken_rows = start + taken
            self._count(entry, -taken)
            room -= taken
            if taken == rows:
                del self._entries[0]
            parts.append(Part(entry, start, start + taken))
        return parts

    def _count(self, entry: Entry, rows: int) -> None:
        self.rows += rows
        self._level_rows[entry.priority - 1] += rows


def urgency_of(enqueued: float, deadline: float, priority: int, patience_s: float = PRIORITY_STEP_S) -> float:
    """When a request wants to be computed: the smallest goes first.

    It includes the age, so that no request starves. Tighter deadlines that arrive later go first for `patience_s`.
    """
    return enqueued + (priority - 1) * PRIORITY_STEP_S + min(deadline - enqueued, patience_s)


def _instantly(_: int) -> float:
    return 0.0


_order = attrgetter("order")
_numbers = count()
