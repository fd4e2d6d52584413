from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.scaling.costs import ModelCosts, ThreadCosts


def test_costs_are_read_as_they_were_saved(costs: ModelCosts, tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    costs.save(path, when="today")
    assert ModelCosts.load(path) == costs
    assert json.loads(path.read_text())["when"] == "today"


@pytest.mark.parametrize(("is_woken", "expected"), [(True, 18), (False, 8)])
def test_waking_costs_once_and_rows_after_the_first_cost_less_than_requests(is_woken: bool, expected: float) -> None:
    assert ThreadCosts(10, 2, 0.5).turn(requests=3, rows=7, is_woken=is_woken) == pytest.approx(expected)
