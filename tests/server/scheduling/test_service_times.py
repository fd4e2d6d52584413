from __future__ import annotations

import pytest

from server.scheduling.service_times import ServiceTimes


def times_of(*batches: tuple[int, float], batches_at_once: int = 1) -> ServiceTimes:
    times = ServiceTimes()
    for rows, seconds in batches:
        times.computed(rows, seconds, batches_at_once)
    return times


def test_nothing_takes_any_time_until_a_batch_was_computed() -> None:
    times = ServiceTimes()
    assert (times.batch_s(64), times.rows_s(64), times.request_s(1000, 64), times.rows_per_s) == (0, 0, 0, 0)
    assert times.retry_after_ms(64) == 10


def test_estimates_follow_recent_batches() -> None:
    times = times_of((50, 0.5))
    assert times.retry_after_ms(100) == 1000
    for _ in range(100):
        times.computed(50, 0.125, 1)
    assert times.retry_after_ms(100) == pytest.approx(250, abs=1)


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [
        (4, 0.4),  # as measured
        (6, 0.6),  # of the same size, within a factor of two
        (1, 0.1),  # smaller: at best in proportion
        (1000, 0.4),  # larger: at best as fast as the largest so far
    ],
)
def test_a_size_that_was_never_computed_gets_the_most_optimistic_estimate(rows: int, seconds: float) -> None:
    assert times_of((4, 0.4)).batch_s(rows) == pytest.approx(seconds)


def test_the_most_efficient_size_gives_the_rows_per_second_of_all_instances() -> None:
    times = times_of((1, 0.01), (64, 0.064), (2, 0.015), batches_at_once=2)
    assert times.rows_per_s == pytest.approx(2000)
    assert times.rows_s(500) == pytest.approx(0.25)


@pytest.mark.parametrize(("rows", "seconds"), [(16, 0.064), (64, 0.064), (640, 0.32)])
def test_a_request_takes_at_least_one_batch_and_its_share_of_all_instances(rows: int, seconds: float) -> None:
    times = times_of((16, 0.064), (64, 0.064), batches_at_once=2)
    assert times.request_s(rows, 64) == pytest.approx(seconds)


def test_sizes_that_are_not_computed_follow_a_model_that_becomes_slower_or_faster() -> None:
    for factor in (10, 0.1):
        times = times_of((1, 0.004), (8, 0.016), (64, 0.064))
        for _ in range(40):
            times.computed(8, factor * 0.016, 1)
        assert times.batch_s(64) == pytest.approx(factor * 0.064, rel=0.02)
        assert times.batch_s(1) == pytest.approx(factor * 0.004, rel=0.02)


def test_a_batch_during_which_the_machine_slept_hardly_counts() -> None:
    times = times_of((64, 0.064), (64, 100.0))
    assert times.batch_s(64) < 2 * 0.064


def test_an_estimate_that_contradicts_newer_ones_of_other_sizes_is_corrected() -> None:
    times = times_of((64, 6.4), (16, 0.016))  # the first batch took long
    assert times.batch_s(64) <= 1.5 * 4 * 0.016
    times = times_of((1, 6.4), (16, 0.016))
    assert times.batch_s(1) <= 1.5 * 0.016


def test_rows_per_second_do_not_mix_sizes_that_run_alone_with_those_that_run_side_by_side() -> None:
    times = times_of((4, 0.004))  # one instance on all cores
    times.computed(64, 0.128, 2)
    assert times.rows_per_s == pytest.approx(1000)
