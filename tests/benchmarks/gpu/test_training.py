from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.gpu.record import Record, Skip
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.training import _DRY_CELLS, TUTORIAL, Cell, goal, ours

BEST, OTHER = _DRY_CELLS[:2]


@pytest.mark.parametrize("cell", _DRY_CELLS, ids=lambda cell: cell.name)
def test_every_kind_of_step_is_timed(cell: Cell, tmp_path: Path) -> None:
    measured = ours(Settings(tmp_path, tmp_path, math.inf, is_dry=True), cell)
    assert measured["ms_per_step"] == pytest.approx(1e3 * measured["batch_size"] / measured["images_per_s"])
    assert len(measured["all_images_per_s"]) == 3


def test_the_goal_compares_the_fastest_setting_with_the_tutorial(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.json", lambda: 100.0)
    with pytest.raises(Skip, match="tutorial"):
        goal(record)
    for name, ms in ((TUTORIAL, 6.0), (BEST.name, 1.5), (OTHER.name, 4.0)):
        record.measure(name, lambda ms=ms: {"ms_per_step": ms})  # type: ignore[misc]
    found = goal(record)
    assert (found["ratio"], found["setting"], found["is_reached"]) == (4.0, BEST.setting, True)
    assert "5x takes 1.20 ms" in found["summary"]
