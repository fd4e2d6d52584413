from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.bench.results import NOT_SENT, OK, UNAVAILABLE, Outcome, Samples


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_percentiles_are_exact_over_all_numbers(values: list[float]) -> None:
    samples = Samples()
    for value in values:
        samples.add(value)
    np.testing.assert_allclose(samples.percentiles(50, 90, 99) or [], np.quantile(values, [0.5, 0.9, 0.99]))


def test_beyond_the_limit_a_uniform_sample_is_kept() -> None:
    samples = Samples(limit=2000)
    for value in range(100_000):
        samples.add(value)
    assert len(samples) == 100_000
    percentiles = samples.percentiles(10, 50, 90)
    assert percentiles is not None
    # The error of a share counted in 2000 draws is at most sqrt(0.25 / 2000), 1.1 %; five times that is allowed.
    assert percentiles == pytest.approx([10_000, 50_000, 90_000], abs=5_600)


def test_no_numbers_have_no_percentiles() -> None:
    assert Samples().percentiles(50) is None


def test_latency_counts_from_when_a_request_was_due() -> None:
    outcome = Outcome(0, 10)
    outcome.add(OK, due_s=1.0, sent_s=3.0, ended_s=3.5)
    results = outcome.results(1, math.inf, 0.0)
    assert results is not None
    assert results.p50_ms == results.max_ms == 2500
    assert results.client_late_p99_ms == 2000


def test_requests_count_when_due_and_rates_count_when_answered() -> None:
    outcome = Outcome(10, 20)
    outcome.add(OK, 9, 9, 11)  # from the warm-up: answered in time, but no latency of the measured time
    outcome.add(OK, 10, 10, 12)
    outcome.add(OK, 19, 19, 29)  # answered after the end, and counted, so that slow requests are included
    outcome.add("INTERNAL", 15, 15, 16)
    outcome.add(NOT_SENT, 15, 15, 15)
    outcome.add(OK, 20, 20, 21)
    results = outcome.results(16, math.inf, 0.5)
    assert results is not None
    assert (results.requests, results.answered, results.errors) == (4, 2, {"INTERNAL": 1, NOT_SENT: 1})
    assert (results.requests_per_s, results.images_per_s) == (0.2, 3.2)
    assert (results.p50_ms, results.max_ms, results.seconds) == (6000, 10_000, 10)


def test_partial_results_cover_the_measured_time() -> None:
    outcome = Outcome(10, 20)
    outcome.add(OK, 10, 10, 11)
    assert outcome.results(1, 10, 0.0) is None
    results = outcome.results(1, 12, 0.0)
    assert results is not None
    assert (results.seconds, results.requests_per_s) == (2, 0.5)


def test_without_a_response_there_is_no_latency() -> None:
    outcome = Outcome(0, 1)
    outcome.add("INTERNAL", 0, 0, 0.5)
    results = outcome.results(1, math.inf, 0.0)
    assert results is not None
    assert (results.p50_ms, results.max_ms, results.requests_per_s) == (None, None, 0)


def test_an_outage_starts_after_the_last_response() -> None:
    outcome = Outcome(0, 10)
    outcome.add(UNAVAILABLE, 1, 1, 1)
    outcome.add(UNAVAILABLE, 2, 2, 2)
    assert outcome.lost_since_s == 1
    outcome.add("RESOURCE_EXHAUSTED", 3, 3, 3)
    assert outcome.lost_since_s is None
