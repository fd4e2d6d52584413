"""Which engine computes which rows: the seats of one model, and the choice among them. No queue, no threads, no clock.

On a CPU, several engines of one thread each compute most images a second, and one engine on all cores answers a lone
small request soonest. So a model has both: an idle server takes the wide seat, or shares one large request out among
the narrow ones, and a busy server keeps every narrow seat filled. An engine of reduced precision, if there is one,
takes the large batches. Batches that take less time than handing them to a thread are run on the event loop itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy.typing import NDArray

from server.row_queue import Outputs

Run = Callable[[NDArray[Any], frozenset[str]], Outputs]


@dataclass(eq=False)
class Seat:
    """Room for one batch at a time on one engine."""

    lane: str  # "narrow", "wide", "bf16", "cuda:0": a label of metrics
    run: Run  # maps inputs (rows, ...) and the wanted output names to those outputs, each of as many rows
    cores: int = 1  # that a run keeps busy
    max_rows: int = 1
    padded_rows: Callable[[int], int] = field(default=lambda rows: rows)  # what is computed for so many rows
    probe: Callable[[], object] | None = None  # runs rows that are known to be good; raises if the engine is broken
    close: Callable[[], object] | None = None  # frees what the engine holds; slow


class Share(NamedTuple):
    """The most rows for a seat, and whether to run them on the event loop."""

    seat: Seat
    rows: int
    inline: bool


@dataclass(frozen=True)
class LaneLimits:
    """From when on a way of computing pays; measured at load, or read from a profile.

    The defaults are those of a model that only has narrow seats, and of one image that takes long.
    """

    inline_rows: int = 0  # up to so many rows are computed on the event loop
    min_share_rows: int = 1  # a request is shared out in pieces of at least so many rows
    wide_rows: int = 0  # up to so many rows of an idle model are computed on the wide seat
    large_rows: int = 1  # from so many rows on, the large seat computes them


class Lanes:
    """The seats of a model and which of them are taken; used on the event loop only.

    Args:
        narrow: seats that are used side by side; at least one.
        wide: a seat for few rows that uses all cores.
        large: a seat for many rows that uses all cores; may come later, as it may load slowly.
        limits: who gets what.
    """

    def __init__(
        self,
        narrow: Sequence[Seat],
        *,
        wide: Seat | None = None,
        large: Seat | None = None,
        limits: LaneLimits | None = None,
    ) -> None:
        self._narrow = list(narrow)
        self._free = list(reversed(self._narrow))
        self._wide = wide
        self.large = large
        self.limits = limits or LaneLimits()
        self._exclusive: Seat | None = None  # the wide or the large seat, while it is taken

    @classmethod
    def of(cls, run: Run, max_rows: int, concurrency: int = 1) -> Lanes:
        """So many like seats around one callable."""
        return cls([Seat("narrow", run, max_rows=max_rows) for _ in range(concurrency)])

    @property
    def seats(self) -> list[Seat]:
        """All of them."""
        return [*self._narrow, *(seat for seat in (self._wide, self.large) if seat is not None)]

    @property
    def concurrency(self) -> int:
        """How many batches are computed at once at most."""
        return len(self._narrow)

    @property
    def full_rows(self) -> int:
        """So many rows are worth no further wait."""
        return (self.large or self._narrow[0]).max_rows

    @property
    def free(self) -> bool:
        """Whether any seat is."""
        return self._exclusive is None and bool(self._free)

    def close(self) -> None:
        """Frees what the engines hold; slow, and nothing may run any more."""
        close_seats(self.seats)

    def inline_seat(self, rows: int) -> Seat | None:
        """The seat that computes so many rows sooner than a thread would take them over; None if there is none now."""
        return self._free[-1] if rows <= self.limits.inline_rows and self.free else None

    def take(self, rows: int) -> list[Share]:
        """Seats for (some of) so many waiting rows, rows >= 1; they are taken until `give_back`. Empty: none now."""
        if not self.free:
            return []
        limits, idle = self.limits, len(self._free) == len(self._narrow)
        if rows <= limits.inline_rows:
            seat = self._free.pop()
            return [Share(seat, min(rows, seat.max_rows), inline=True)]
        if self.large is not None and rows >= limits.large_rows:
            return [self._take_exclusive(self.large, rows)] if idle else []
        if self._wide is not None and idle and rows <= limits.wide_rows:
            return [self._take_exclusive(self._wide, rows)]
        pieces = max(1, min(len(self._free), rows // limits.min_share_rows))
        shares = []
        for left in range(pieces, 0, -1):
            seat = self._free.pop()
            share = min(-(-rows // left), seat.max_rows)
            shares.append(Share(seat, share, inline=False))
            rows -= share
        return shares

    def give_back(self, seat: Seat) -> None:
        """Frees a seat that was taken."""
        if seat is self._exclusive:
            self._exclusive = None
        else:
            self._free.append(seat)

    def _take_exclusive(self, seat: Seat, rows: int) -> Share:
        self._exclusive = seat
        return Share(seat, min(rows, seat.max_rows), inline=False)


@dataclass(frozen=True)
class LoadedLanes:
    """The seats of a model, and what their engines are."""

    lanes: Lanes
    backend: str  # "onnx" or "torchscript"
    device: str  # "cpu", "cuda:0", "cuda:0,1"
    precision: str  # of what computes most rows


def close_seats(seats: Sequence[Seat]) -> None:
    """Frees what the engines of some seats hold."""
    for seat in seats:
        if seat.close is not None:
            seat.close()
