"""What came of the requests of one load, and the results that are made of it. No event loop, no channel."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

OK: Final = "OK"
NOT_SENT: Final = "NOT_SENT"  # too many were waiting for an answer already
WRONG_ANSWER: Final = "WRONG_ANSWER"
UNAVAILABLE: Final = "UNAVAILABLE"

MAX_SAMPLES: Final = 1_000_000


class Samples:
    """Numbers, all of them as long as they are few, and an even choice of them then (Vitter's algorithm R, 1985).

    Args:
        limit: the most that are kept.
    """

    def __init__(self, limit: int = MAX_SAMPLES) -> None:
        self._kept = array("d")
        self._limit = limit
        self._seen = 0
        self._random = random.Random(0)

    def add(self, value: float) -> None:
        """Adds a number."""
        self._seen += 1
        if len(self._kept) < self._limit:
            self._kept.append(value)
        elif (place := self._random.randrange(self._seen)) < self._limit:
            self._kept[place] = value

    def percentiles(self, *percents: float) -> list[float] | None:
        """Percentiles, with straight lines between the numbers; None if there are none."""
        if not self._kept:
            return None
        return [float(value) for value in np.percentile(np.frombuffer(self._kept), percents)]

    def __len__(self) -> int:
        return self._seen


@dataclass(frozen=True)
class Results:
    """What one load showed.

    Requests count that were due in the measured time; they were waited for. The rates are of what was answered within
    that time.
    """

    seconds: float
    requests: int
    answered: int
    errors: dict[str, int]
    requests_per_s: float
    images_per_s: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    client_late_p99_ms: float | None  # how late the client was to send them
    client_cores: float  # of one processor core, used to send and receive


class Outcome:
    """Notes what comes of requests; times are those of one clock, in seconds.

    Args:
        opens_s: when the measured time begins.
        closes_s: when it ends.
    """

    def __init__(self, opens_s: float, closes_s: float) -> None:
        self.lost_since_s: float | None = None  # since when no request has found a server
        self._opens_s = opens_s
        self._closes_s = closes_s
        self._latencies_s = Samples()
        self._late_s = Samples()
        self._largest_s = 0.0
        self._statuses: Counter[str] = Counter()
        self._answered_in_time = 0

    def add(self, status: str, due_s: float, sent_s: float, ended_s: float) -> None:
        """Notes a request: its latency counts from when it was due, however late it was sent."""
        if status != UNAVAILABLE:
            self.lost_since_s = None
        elif self.lost_since_s is None:
            self.lost_since_s = ended_s
        if self._opens_s <= ended_s < self._closes_s and status == OK:
            self._answered_in_time += 1
        if not self._opens_s <= due_s < self._closes_s:
            return
        self._statuses[status] += 1
        if status != NOT_SENT:
            self._late_s.add(sent_s - due_s)
        if status == OK:
            self._latencies_s.add(ended_s - due_s)
            self._largest_s = max(self._largest_s, ended_s - due_s)

    def results(self, rows: int, now_s: float, client_cores: float) -> Results | None:
        """The results until now, math.inf for all of the time; None if the measured time has not begun."""
        seconds = min(now_s, self._closes_s) - self._opens_s
        if seconds <= 0:
            return None
        latencies_s = self._latencies_s.percentiles(50, 90, 99)
        late_s = self._late_s.percentiles(99)
        p50_ms, p90_ms, p99_ms = (None, None, None) if latencies_s is None else [1e3 * value for value in latencies_s]
        return Results(
            seconds=seconds,
            requests=self._statuses.total(),
            answered=self._statuses[OK],
            errors={status: count for status, count in sorted(self._statuses.items()) if status != OK},
            requests_per_s=self._answered_in_time / seconds,
            images_per_s=self._answered_in_time * rows / seconds,
            p50_ms=p50_ms,
            p90_ms=p90_ms,
            p99_ms=p99_ms,
            max_ms=None if latencies_s is None else 1e3 * self._largest_s,
            client_late_p99_ms=None if late_s is None else 1e3 * late_s[0],
            client_cores=client_cores,
        )
