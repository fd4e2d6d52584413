from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scaling.costs import ModelCosts, ThreadCosts
from benchmarks.scaling.plan import find_capacity, front_limit_per_s, needs

REQUESTS = 1500


def test_a_replica_carries_almost_what_its_cores_compute_and_a_share_of_it_is_planned(costs: ModelCosts) -> None:
    found = find_capacity(costs, 1, 50, 0.5, REQUESTS)
    assert 0.7 * 2000 < found.requests_per_s < 2000  # two cores, 1 ms a row, and the front
    assert found.limit == "cores"
    assert found.at_limit.p99_ms <= 50
    assert found.images_per_s == pytest.approx(found.requests_per_s / 2, rel=0.1)
    assert found.planned.p99_ms < found.at_limit.p99_ms


def test_the_event_loop_limits_a_tiny_model(costs: ModelCosts) -> None:
    tiny = replace(costs, row_s=1e-6, inline_rows=64, wide_rows=0)
    found = find_capacity(tiny, 1, 20, 0.7, REQUESTS)
    assert found.limit == "event loop"
    assert found.requests_per_s == pytest.approx(front_limit_per_s(tiny, 1), rel=0.25)


def test_a_limit_that_an_idle_server_exceeds_is_an_error(costs: ModelCosts) -> None:
    with pytest.raises(ValueError, match=r"64 rows take .* ms on an idle server"):
        find_capacity(costs, 64, 10, 0.7, REQUESTS)


def test_a_load_needs_a_spare_replica_and_costs_by_cores(costs: ModelCosts) -> None:
    capacity = find_capacity(costs, 1, 50, 0.7, REQUESTS)
    need = needs(costs, capacity, 100_000, price_per_core_hour=0.1)
    assert (need.replicas - 2) * capacity.images_per_s < 100_000 <= (need.replicas - 1) * capacity.images_per_s
    assert need.cores == 2 * need.replicas
    assert need.price_per_hour == pytest.approx(need.cores * 0.1)
    assert need.price_per_million == pytest.approx(need.price_per_hour / 360)
    assert need.gbit_per_s == pytest.approx(100_000 * 50_000 * 8 / 1e9)


def test_the_front_alone_makes_what_full_turns_of_its_loop_allow(costs: ModelCosts) -> None:
    front = replace(costs, loop=ThreadCosts(wake_s=0.0032, request_s=0.0002, row_s=0.00001))
    assert front_limit_per_s(front, 1) == pytest.approx(5000)
    assert front_limit_per_s(front, 11) == pytest.approx(1 / 0.0003)
