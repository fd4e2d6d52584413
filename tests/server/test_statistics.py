from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.request import InFlightRequest
from server.statistics import LATENCY_BOUNDS_S, BatchTimes, Histogram, ModelStatistics


def batch(rows: int = 3, **changes: Any) -> BatchTimes:
    times = BatchTimes(rows, 4, gather_s=0.001, compute_s=0.02, scatter_s=0.003, group="wide", cores=2)
    return times._replace(**changes)


def ended(**fields: Any) -> InFlightRequest:
    """A request that arrived a second ago."""
    return InFlightRequest(
        **{"method": "Generate", "began_s": time.perf_counter() - 1, "model": "tiny", "rows": 3, **fields}
    )


def test_new_statistics_are_zero() -> None:
    snapshot = ModelStatistics().snapshot()
    assert (snapshot.last_inference_ms, snapshot.inference_count, snapshot.execution_count) == (0, 0, 0)
    assert (snapshot.success.count, snapshot.fail.count, snapshot.queue.total_ns) == (0, 0, 0)
    assert snapshot.batches == ()


def test_statistics_are_used_once_anything_is_counted() -> None:
    statistics = [ModelStatistics() for _ in range(5)]
    statistics[0].batch_computed(batch())
    statistics[1].request_answered(ended(), "NOT_FOUND")
    statistics[2].request_waited(0.0)
    statistics[3].engine_rebuilt()
    assert [counted.is_used for counted in statistics] == [True] * 4 + [False]


def test_batches_are_counted_by_size() -> None:
    statistics = ModelStatistics()
    for rows in (3, 1, 3):
        statistics.batch_computed(batch(rows))
    snapshot = statistics.snapshot()
    assert (snapshot.inference_count, snapshot.execution_count) == (7, 3)
    assert [size.rows for size in snapshot.batches] == [1, 3]
    three = snapshot.batches[1]
    assert (three.compute_input.count, three.compute_input.total_ns) == (2, 2_000_000)
    assert three.compute_infer.total_ns == 40_000_000
    assert three.compute_output.total_ns == 6_000_000
    assert statistics.batch_sizes() == {1: 1, 3: 2}


def test_each_request_of_a_batch_counts_the_full_time_of_the_batch() -> None:
    statistics = ModelStatistics()
    statistics.batch_computed(batch(requests=3))
    statistics.batch_computed(batch())
    infer = statistics.snapshot().compute_infer
    assert (infer.count, infer.total_ns) == (4, 80_000_000)


def test_padding_and_busy_cores_are_added_up() -> None:
    statistics = ModelStatistics()
    statistics.batch_computed(batch(3))
    statistics.batch_computed(batch(1, padded_rows=4))
    statistics.batch_computed(batch(4, group="narrow", cores=1))
    assert statistics.padding_rows == 4
    assert statistics.busy_core_s == pytest.approx({"wide": 0.08, "narrow": 0.02})


def test_the_last_inference_is_in_milliseconds() -> None:
    before_ms = int(time.time() * 1e3)
    statistics = ModelStatistics()
    statistics.batch_computed(batch())
    assert before_ms <= statistics.snapshot().last_inference_ms <= time.time() * 1e3


def test_waiting_time_is_counted_per_request() -> None:
    statistics = ModelStatistics()
    statistics.request_waited(0.5)
    statistics.request_waited(0.25)
    queue = statistics.snapshot().queue
    assert (queue.count, queue.total_ns) == (2, 750_000_000)


@pytest.mark.parametrize(
    ("status", "reason", "rows", "counted"),
    [
        ("OK", "", 3, {"success"}),
        ("OK", "", 0, set()),  # a request for metadata
        ("CANCELLED", "", 3, {"fail"}),
        ("RESOURCE_EXHAUSTED", "queue_full", 3, {"fail"}),
        ("INVALID_ARGUMENT", "invalid", 0, {"fail"}),
        ("INTERNAL", "internal", 3, {"fail"}),
    ],
)
def test_requests_are_counted_by_how_they_end(status: str, reason: str, rows: int, counted: set[str]) -> None:
    statistics = ModelStatistics()
    statistics.request_answered(ended(rows=rows), status, reason)
    snapshot = statistics.snapshot()
    outcomes = {name: getattr(snapshot, name) for name in ("success", "fail")}
    assert {name for name, time in outcomes.items() if time.count} == counted
    assert all(outcomes[name].total_ns >= 1_000_000_000 for name in counted)
    assert statistics.answered == {("Generate", status): 1}
    assert statistics.rejected == ({reason: 1} if reason not in ("", "internal") else {})
    assert statistics.request_durations["Generate"].total >= 1


def test_only_phases_that_a_request_reached_are_observed() -> None:
    statistics = ModelStatistics()
    statistics.request_answered(ended(admission_s=0.25), "CANCELLED")
    statistics.request_answered(ended(admission_s=0.25, compute_s=9.0, encode_s=0.5), "OK")
    statistics.batch_computed(batch())
    statistics.request_waited(0.125)
    assert {name: (phase.cumulative()[-1], phase.total) for name, phase in statistics.phases.items()} == {
        "admission": (2, 0.5),
        "queue": (1, 0.125),
        "gather": (1, 0.001),
        "compute": (1, 0.02),
        "scatter": (1, 0.003),
        "encode": (1, 0.5),
    }


VALUES = st.lists(st.sampled_from([*LATENCY_BOUNDS_S, 0.0, 3e-4, 99.0]) | st.floats(0, 100), max_size=50)


def test_latency_bounds_ascend() -> None:
    assert all(low < high for low, high in pairwise(LATENCY_BOUNDS_S))


@given(VALUES)
def test_buckets_count_values_up_to_their_bound(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    expected = [int(np.sum(np.array(values) <= bound)) for bound in LATENCY_BOUNDS_S]
    assert histogram.cumulative() == [*expected, len(values)]
    assert histogram.total == pytest.approx(sum(values))


def test_a_value_can_count_several_times() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(2.0, 3)
    assert (histogram.cumulative(), histogram.total) == ([0, 3, 3], 6.0)
