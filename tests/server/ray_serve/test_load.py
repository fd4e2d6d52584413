"""Tests for server.ray_serve.load."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from server.ray_serve.load import BUSY, ROWS_WAITING, Load


def model(waiting: int = 0, **busy_core_s: float) -> Any:
    return SimpleNamespace(
        batcher=SimpleNamespace(queued_rows=waiting), statistics=SimpleNamespace(busy_core_s=busy_core_s)
    )


class FakeCatalog(list[Any]):
    """The served versions."""

    def versions(self) -> list[Any]:
        return list(self)


@pytest.fixture
def clock() -> SimpleNamespace:
    return SimpleNamespace(now_s=100.0)


def load_of(catalog: FakeCatalog, clock: SimpleNamespace, cores: int = 2) -> Load:
    served: Any = catalog
    return Load(served, cores, lambda: clock.now_s)


def test_rows_of_all_versions_are_added(clock: SimpleNamespace) -> None:
    clock.now_s = 101.0
    assert load_of(FakeCatalog([model(3), model(4)]), clock).report()[ROWS_WAITING] == 7


def test_busy_is_the_share_of_the_time_since_the_last_report(clock: SimpleNamespace) -> None:
    first = model(cpu=5.0)
    load = load_of(FakeCatalog([first]), clock)
    clock.now_s += 10
    load.report()
    first.statistics.busy_core_s["cpu"] += 3.0
    first.statistics.busy_core_s["other"] = 1.0
    clock.now_s += 4
    assert load.report()[BUSY] == pytest.approx(4.0 / (4 * 2))
    clock.now_s += 4
    assert load.report()[BUSY] == 0


def test_a_version_that_is_gone_does_not_count_as_negative(clock: SimpleNamespace) -> None:
    catalog = FakeCatalog([model(cpu=5.0), model(cpu=1.0)])
    load = load_of(catalog, clock)
    load.report()
    del catalog[0]
    catalog[0].statistics.busy_core_s["cpu"] += 1.0
    clock.now_s += 1
    assert load.report()[BUSY] == pytest.approx(0.5)


def test_two_reports_at_the_same_time_do_not_fail(clock: SimpleNamespace) -> None:
    assert load_of(FakeCatalog([model(cpu=1.0)]), clock).report()[BUSY] == 0
