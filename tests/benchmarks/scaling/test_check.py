from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.scaling.check import CurveError, compare
from benchmarks.scaling.costs import ModelCosts

RATE = 400.0


def curve(path: Path, answers: list[tuple[float, float]], peer: str = "ours") -> Path:
    """A file of serve_peers: p50 and the cores of other programs, one visit each."""
    visits = [
        {
            "model": "m",
            "peer": peer,
            "loads": {"1x128": {"images_per_s": 800.0, "other_cores": other}},
            "streams": [
                {
                    "rate_per_s": RATE,
                    "answered_per_s": RATE,
                    "p50_ms": p50,
                    "p99_ms": 3 * p50,
                    "failed": 0,
                    "other_cores": other,
                }
            ],
        }
        for p50, other in answers
    ]
    path.write_text(json.dumps({"visits": visits}))
    return path


def test_errors_are_relative_to_the_median_of_undisturbed_rounds_of_all_files(
    costs: ModelCosts, tmp_path: Path
) -> None:
    first = curve(tmp_path / "first.json", [(1.0, 0.0), (900.0, 0.9)])
    second = curve(tmp_path / "second.json", [(2.0, 0.1), (4.0, 0.0)])
    (row,) = compare(costs, [first, second], requests=2000)
    assert (row["load"], row["rounds"], row["p50 ms"], row["p99 ms"]) == ("50%", 3, 2.0, 6.0)
    assert row["p50 ms error"] == pytest.approx(row["p50 ms simulated"] / 2.0 - 1)
    assert row["requests/s simulated"] == pytest.approx(RATE, rel=0.08)
    assert row["p99 ms simulated"] > row["p50 ms simulated"] > 0.6


@pytest.mark.parametrize("answers", [[(1.0, 0.5)], []], ids=["disturbed", "nothing"])
def test_a_curve_without_undisturbed_rounds_is_an_error(
    costs: ModelCosts, tmp_path: Path, answers: list[tuple[float, float]]
) -> None:
    with pytest.raises(CurveError, match="ran undisturbed: measure"):
        compare(costs, [curve(tmp_path / "curve.json", answers)])


def test_other_servers_are_left_out(costs: ModelCosts, tmp_path: Path) -> None:
    with pytest.raises(CurveError):
        compare(costs, [curve(tmp_path / "curve.json", [(1.0, 0.0)], peer="triton 2x1")])
