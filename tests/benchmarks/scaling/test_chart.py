from __future__ import annotations

from pathlib import Path

from benchmarks.scaling.chart import draw


def test_the_figure_has_a_panel_per_model_with_all_curves(tmp_path: Path) -> None:
    rows = [
        {"rate_per_s": rate, "p50 ms": 1.0, "p99 ms": rate, "p50 ms simulated": 1.1, "p99 ms simulated": 2.0}
        for rate in (100.0, 200.0)
    ]
    path = tmp_path / "curves.svg"
    draw({"gan28": rows, "dcgan64": rows}, path)
    svg = path.read_text()
    assert all(f"<!-- {text} -->" in svg for text in ("gan28", "dcgan64", "p50 measured", "p99 simulated"))
