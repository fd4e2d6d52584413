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


def test_a_turn_costs_once_and_rows_after_the_first_cost_less_than_requests() -> None:
    assert ThreadCosts(10, 2, 0.5).turn(requests=3, rows=7) == pytest.approx(10 + 6 + 2)
