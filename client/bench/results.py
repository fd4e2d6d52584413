"""Records the outcomes of the requests of one load, and computes its results."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

OK: Final = "OK"
NOT_SENT: Final = "NOT_SENT"  # too many requests were already waiting
WRONG_ANSWER: Final = "WRONG_ANSWER"
UNAVAILABLE: Final = "UNAVAILABLE"

MAX_SAMPLES: Final = 1_000_000


class Samples:
    """Keeps all numbers up to `limit`, then a uniform random sample of that size.

    Vitter, "Random sampling with a reservoir", 1985, algorithm R.

    Args:
        limit: The size of the reservoir.
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
        """Percentiles, linearly interpolated; None if there are no numbers."""
        if not self._kept:
            return None
        return [float(value) for value in np.percentile(np.frombuffer(self._kept), percents)]

    def __len__(self) -> int:
        return self._seen


@dataclass(frozen=True)
class Results:
    """The results of one load.

    The counts and latencies cover the requests that were due in the measured time, even if answered later. The rates
    cover the responses that arrived within that time.
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
    client_late_p99_ms: float | None  # how late the client sent requests
    client_cores: float  # CPU cores that the client used


class Outcome:
    """Records the outcomes of requests. All times are in seconds of the same clock.

    Args:
        opens_s: The beginning of the measured time.
        closes_s: Its end.
    """

    def __init__(self, opens_s: float, closes_s: float) -> None:
        self.lost_since_s: float | None = None  # when requests stopped reaching a server; None: they reach it
        self._opens_s = opens_s
        self._closes_s = closes_s
        self._latencies_s = Samples()
        self._late_s = Samples()
        self._largest_s = 0.0
        self._statuses: Counter[str] = Counter()
        self._answered_in_time = 0

    def add(self, status: str, due_s: float, sent_s: float, ended_s: float) -> None:
        """Records a request. Its latency counts from when it was due, even if it was sent late."""
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
        """The results up to `now_s` (math.inf: to the end); None if the measured time has not begun."""
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
