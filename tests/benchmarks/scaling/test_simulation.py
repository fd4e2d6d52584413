"""The simulation against queueing theory, where theory has formulas."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scaling.costs import ModelCosts, ThreadCosts
from benchmarks.scaling.simulation import simulate

SERVICE_S = 0.01
FREE = ThreadCosts()
# One engine, one core, a fixed time per request, and nothing else costs anything.
PLAIN = ModelCosts(
    model="m",
    cores=1,
    engines=1,
    batch_s=SERVICE_S,
    row_s=0.0,
    wide_s=0.0,
    beside_factor=1.0,
    inline_rows=0,
    min_share_rows=1,
    wide_rows=0,
    quick_rows=0,
    loop=FREE,
    network=FREE,
    client=FREE,
    answer_bytes=1,
)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_engine_without_batches_is_an_m_d_1_queue(load: float) -> None:
    found = simulate(PLAIN, load / SERVICE_S, 150, max_batch_rows=1, max_delay_s=0)
    wait_s = load * SERVICE_S / (2 * (1 - load))  # Pollaczek and Khinchine
    assert found.mean_ms / 1e3 == pytest.approx(SERVICE_S + wait_s, rel=0.1)
    assert found.engines_busy == pytest.approx(load, rel=0.05)
    assert found.cores_busy == pytest.approx(found.engines_busy, rel=1e-3)
    assert found.batch_rows == 1
    assert not found.refused


def test_threads_that_share_a_core_are_a_processor_sharing_queue() -> None:
    load = 0.6
    found = simulate(replace(PLAIN, engines=50), load / SERVICE_S, 150, max_batch_rows=1, max_delay_s=0)
    assert found.mean_ms / 1e3 == pytest.approx(SERVICE_S / (1 - load), rel=0.1)  # for any service times


@pytest.mark.parametrize("replicas", [1, 3])
def test_littles_law_holds(replicas: int) -> None:
    costs = replace(PLAIN, engines=2, cores=2, loop=ThreadCosts(0.001, 0.0005), network=ThreadCosts(0.0002, 0.0001))
    found = simulate(costs, 120 * replicas, 20, replicas=replicas)
    assert found.mean_in_system == pytest.approx(found.answered_per_s * found.mean_ms / 1e3, rel=0.02)


def test_random_shares_of_a_stream_load_each_replica_like_its_own_stream() -> None:
    load = 0.6
    found = simulate(PLAIN, 3 * load / SERVICE_S, 60, replicas=3, max_batch_rows=1, max_delay_s=0)
    assert found.mean_ms / 1e3 == pytest.approx(SERVICE_S * (1 + load / (2 * (1 - load))), rel=0.1)
    assert found.engines_busy == pytest.approx(load, rel=0.05)


def test_throughput_at_overload_is_that_of_full_batches_and_the_queue_stays_bounded() -> None:
    costs = replace(PLAIN, row_s=0.001)
    found = simulate(costs, 5000, 5, max_batch_rows=32, max_queue_rows=64)
    assert found.answered_per_s == pytest.approx(32 / costs.compute_s(32), rel=0.03)
    assert found.batch_rows == pytest.approx(32, rel=0.02)
    assert found.refused > 0.8 * (5000 - found.answered_per_s) * 4.5
    assert found.p99_ms / 1e3 < 4 * costs.compute_s(32)


def test_more_rows_per_request_use_both_engines_for_one_request() -> None:
    costs = replace(PLAIN, engines=2, cores=2, batch_s=0.0, row_s=0.001)
    found = simulate(costs, 1, 40, rows=64)
    assert found.p50_ms == pytest.approx(32)


def test_a_loaded_event_loop_handles_more_requests_per_turn() -> None:
    costs = replace(PLAIN, batch_s=0.0, row_s=1e-6, inline_rows=64, loop=ThreadCosts(wake_s=0.001, request_s=0.00005))
    light, heavy = (simulate(costs, rate, 4) for rate in (100, 5000))
    assert light.batch_rows < 1.2
    assert heavy.batch_rows > 2
    assert heavy.answered_per_s == pytest.approx(5000, rel=0.05)  # waking for each would make 950


def test_a_lone_row_runs_on_all_cores() -> None:
    costs = replace(PLAIN, engines=2, cores=2, wide_rows=1, wide_s=0.004)
    found = simulate(costs, 0.5, 100)
    assert found.p50_ms == pytest.approx(4)


def test_a_client_on_the_same_cores_takes_time_from_the_server() -> None:
    costs = replace(PLAIN, client=ThreadCosts(request_s=0.002))
    alone, beside = (simulate(costs, 40, 30, with_client=here, max_delay_s=0) for here in (False, True))
    assert beside.cores_busy == pytest.approx(alone.cores_busy + 2 * 40 * 0.002, rel=0.1)
    assert beside.p50_ms > alone.p50_ms + 3


def test_equal_seeds_give_equal_predictions() -> None:
    assert simulate(PLAIN, 50, 3) == simulate(PLAIN, 50, 3)
    assert simulate(PLAIN, 50, 3) != simulate(PLAIN, 50, 3, seed=1)
