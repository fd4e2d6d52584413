"""The counters of one served version, for the metrics and for the Open Inference Protocol's statistics.

Only the event loop writes them, so there are no locks. A thread that reads them may see one value updated before
another.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

from server.request import InFlightRequest

_SUCCESS: Final = "OK"
_FAILED: Final = "internal"  # the reason of an InternalError, which is a fault and not a refusal


class BatchTimes(NamedTuple):
    """One computed batch."""

    rows: int  # requested
    padded_rows: int  # computed: `rows` and the padding
    gather_s: float  # collecting the rows of the requests
    compute_s: float  # in the engine
    scatter_s: float  # distributing the results to the requests
    group: str  # instance group
    cores: int  # that the engine may use
    requests: int = 1  # with rows in the batch


@dataclass(frozen=True, slots=True)
class CountedTime:
    """How often something happened, and its total duration."""

    count: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class BatchSizeStatistics:
    """All batches of one size."""

    rows: int  # of each, without padding
    compute_input: CountedTime  # gather
    compute_infer: CountedTime
    compute_output: CountedTime  # scatter


@dataclass(frozen=True, slots=True)
class StatisticsSnapshot:
    """The statistics of a version at one moment, in the terms of the Open Inference Protocol."""

    last_inference_ms: int  # since 1970; 0 before the first inference
    inference_count: int  # rows computed
    execution_count: int  # batches computed
    success: CountedTime  # requests answered with images, from arrival to the answer
    fail: CountedTime  # all other requests for the model
    queue: CountedTime  # requests, until their first rows left the queue
    compute_input: CountedTime  # requests; here and below, each counts the full time of its batch
    compute_infer: CountedTime
    compute_output: CountedTime
    batches: tuple[BatchSizeStatistics, ...]  # by size, the smallest first


@dataclass(slots=True)
class _SizeTotals:
    batches: int = 0
    gather_s: float = 0.0
    compute_s: float = 0.0
    scatter_s: float = 0.0

    def add(self, times: int, gather_s: float, compute_s: float, scatter_s: float) -> None:
        """Adds `times` events and their total durations."""
        self.batches += times
        self.gather_s += gather_s
        self.compute_s += compute_s
        self.scatter_s += scatter_s

    def snapshot(self, rows: int) -> BatchSizeStatistics:
        times = (_counted(self.batches, seconds) for seconds in (self.gather_s, self.compute_s, self.scatter_s))
        return BatchSizeStatistics(rows, *times)


@dataclass(slots=True)
class _Outcome:
    requests: int = 0
    seconds: float = 0.0

    def count(self, seconds: float) -> None:
        self.requests += 1
        self.seconds += seconds

    def snapshot(self) -> CountedTime:
        return _counted(self.requests, self.seconds)


class ModelStatistics:
    """The statistics of one served version; the observer of its batcher."""

    def __init__(self) -> None:
        self.padding_rows = 0
        self.rebuilds = 0
        self.answered: dict[tuple[str, str], int] = {}  # requests, by method and status
        self.rejected: dict[str, int] = {}  # requests, by reason
        self.request_durations: dict[str, Histogram] = {}  # by method
        self.busy_core_s: dict[str, float] = {}  # by instance group
        self._admission = Histogram()
        self._queue = Histogram()
        self._gather = Histogram()
        self._compute = Histogram()
        self._scatter = Histogram()
        self._encode = Histogram()
        self.phases = {  # admission, queue and encode once per request; the others once per batch
            "admission": self._admission,
            "queue": self._queue,
            "gather": self._gather,
            "compute": self._compute,
            "scatter": self._scatter,
            "encode": self._encode,
        }
        self._sizes: dict[int, _SizeTotals] = {}
        self._requests = _SizeTotals()  # counts requests instead of batches
        self._last_inference_s = 0.0
        self._success, self._fail = _Outcome(), _Outcome()

    @property
    def is_used(self) -> bool:
        """Whether anything has been counted."""
        return bool(self.answered or self._sizes or self.rebuilds) or not self._queue.is_empty

    def request_waited(self, seconds: float) -> None:
        """Counts the time until the first rows of a request left the queue."""
        self._queue.observe(seconds)

    def batch_computed(self, batch: BatchTimes) -> None:
        """Counts a computed batch."""
        rows, padded_rows, gather_s, compute_s, scatter_s, group, cores, requests = batch
        self._gather.observe(gather_s)
        self._compute.observe(compute_s)
        self._scatter.observe(scatter_s)
        if (size := self._sizes.get(rows)) is None:
            size = self._sizes[rows] = _SizeTotals()
        size.add(1, gather_s, compute_s, scatter_s)
        self._requests.add(requests, gather_s * requests, compute_s * requests, scatter_s * requests)
        self.padding_rows += padded_rows - rows
        self.busy_core_s[group] = self.busy_core_s.get(group, 0.0) + compute_s * cores
        self._last_inference_s = time.time()

    def request_answered(self, request: InFlightRequest, status: str, reason: str = "") -> None:
        """Counts a request that has ended.

        Args:
            request: the request.
            status: name of its gRPC status.
            reason: `ServerError.reason` if it was refused.
        """
        seconds = time.perf_counter() - request.began_s
        key = (request.method, status)
        self.answered[key] = self.answered.get(key, 0) + 1
        if (durations := self.request_durations.get(request.method)) is None:
            durations = self.request_durations[request.method] = Histogram()
        durations.observe(seconds)
        if request.admission_s is not None:
            self._admission.observe(request.admission_s)
        if request.encode_s is not None:
            self._encode.observe(request.encode_s)
        if status == _SUCCESS:
            if request.rows:  # 0 for a request for metadata
                self._success.count(seconds)
            return
        self._fail.count(seconds)
        if reason and reason != _FAILED:
            self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def engine_rebuilt(self) -> None:
        """Counts the replacement of broken engines."""
        self.rebuilds += 1

    def batch_sizes(self) -> dict[int, int]:
        """The number of computed batches by their rows, without padding."""
        return {rows: totals.batches for rows, totals in self._sizes.copy().items()}

    def snapshot(self) -> StatisticsSnapshot:
        """The current statistics."""
        batches = tuple(totals.snapshot(rows) for rows, totals in sorted(self._sizes.copy().items()))
        requests = self._requests.snapshot(0)
        return StatisticsSnapshot(
            last_inference_ms=int(self._last_inference_s * 1e3),
            inference_count=sum(size.rows * size.compute_infer.count for size in batches),
            execution_count=sum(size.compute_infer.count for size in batches),
            success=self._success.snapshot(),
            fail=self._fail.snapshot(),
            queue=_counted(sum(self._queue.counts), self._queue.total),
            compute_input=requests.compute_input,
            compute_infer=requests.compute_infer,
            compute_output=requests.compute_output,
            batches=batches,
        )


def _counted(count: int, seconds: float) -> CountedTime:
    return CountedTime(count, round(seconds * 1e9))


LATENCY_BOUNDS_S: Final = (
    *(0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01),
    *(0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)


class Histogram:
    """Counts values in buckets.

    Args:
        bounds: upper bounds of the buckets, inclusive, ascending; a last bucket holds the values above them.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Counts a value, `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    @property
    def is_empty(self) -> bool:
        """Whether no value has been counted."""
        return not any(self.counts)

    def cumulative(self) -> list[int]:
        """The number of values up to each bound, and the number of all values."""
        return list(accumulate(self.counts))
