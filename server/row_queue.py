"""The rows that wait: first in first out, bounded, and any request may leave at any time. No scheduling, no threads."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy.typing import NDArray

from server.errors import DeadlinePassed, InvalidRequest, QueueFull, ServerError

Outputs = dict[str, NDArray[Any]]  # by output name; the first axis of each is the rows


@dataclass(eq=False, slots=True)
class Entry:
    """One request; it stays in the queue as long as some of its rows wait."""

    inputs: NDArray[Any]  # (rows, ...)
    outputs: frozenset[str]
    deadline: float  # of the event loop's clock, in seconds
    enqueued: float
    done: asyncio.Future[None]
    taken_rows: int = 0
    results: dict[int, Outputs] = field(default_factory=dict)  # by first row, as parts may come back in any order
    finished_rows: int = 0

    def deliver(self, first_row: int, rows: int, result: Outputs) -> None:
        """Adds the results of some rows; the request is done with the last of them."""
        self.results[first_row] = result
        self.finished_rows += rows
        if self.finished_rows == len(self.inputs) and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: ServerError) -> None:
        """Ends the request, unless it has ended already."""
        if not self.done.done():
            self.done.set_exception(error)

    def expire(self) -> None:
        """Ends the request because its deadline has come."""
        self.fail(DeadlinePassed("the deadline passed before the rows were computed: allow more time, or send fewer"))


class Part(NamedTuple):
    """The rows of an entry that travel in one batch."""

    entry: Entry
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.stop - self.start

    @property
    def inputs(self) -> NDArray[Any]:
        """Shape (rows, ...)."""
        return self.entry.inputs[self.start : self.stop]


class RowQueue:
    """A bounded FIFO queue of requests, counted in rows.

    Args:
        max_rows: the most rows that may wait.
        name: of the model, for messages.
        on_change: told the number of waiting rows whenever it changes.
    """

    def __init__(self, max_rows: int, name: str, on_change: Callable[[int], None]) -> None:
        self._max_rows = max_rows
        self._name = name
        self._on_change = on_change
        self._entries: OrderedDict[Entry, None] = OrderedDict()  # any entry leaves in constant time
        self.rows = 0
        self.reserved_rows = 0  # for requests whose rows are still being made

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def check_room(self, rows: int) -> None:
        """Raises unless a request of so many rows fits as a whole.

        Raises:
            InvalidRequest: it can never fit.
            QueueFull: it does not fit now.
        """
        if rows > self._max_rows:
            raise InvalidRequest(
                f"{rows} rows are more than the queue ever holds ({self._max_rows}): ask for fewer at a time"
            )
        taken = self.rows + self.reserved_rows
        if taken + rows > self._max_rows:
            raise QueueFull(
                f"the queue of {self._name!r} is full ({taken} of {self._max_rows} rows wait,"
                f" {rows} more do not fit): try again after a pause"
            )

    def append(self, entry: Entry) -> None:
        """Adds a request at the end; `check_room` comes first."""
        self._entries[entry] = None
        self._change(len(entry.inputs))

    def remove(self, entry: Entry) -> None:
        """Takes out what still waits of a request, if anything does."""
        if entry in self._entries:
            del self._entries[entry]
            self._change(entry.taken_rows - len(entry.inputs))

    def take(self, max_rows: int, now: float) -> list[Part]:
        """Takes the oldest rows for one batch, splitting the last request if it does not fit.

        Requests that have ended (expired, cancelled, failed in an earlier part) are dropped on the way.
        """
        parts: list[Part] = []
        room = max_rows
        while room and self._entries:
            entry = next(iter(self._entries))
            if entry.deadline <= now:
                entry.expire()
            if entry.done.done():
                self.remove(entry)
                continue
            start = entry.taken_rows
            stop = entry.taken_rows = min(len(entry.inputs), start + room)
            if stop == len(entry.inputs):
                del self._entries[entry]
            self._change(start - stop)
            room -= stop - start
            parts.append(Part(entry, start, stop))
        return parts

    def _change(self, rows: int) -> None:
        self.rows += rows
        self._on_change(self.rows)
