from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from benchmarks.scaling.__main__ import main
from benchmarks.scaling.costs import ModelCosts


def test_a_plan_is_printed_and_written(costs: ModelCosts, tmp_path: Path) -> None:
    costs.save(tmp_path / "costs.json")
    out = tmp_path / "plan.json"
    flags = ["--costs", str(tmp_path / "costs.json"), "--rows", "64", "--requests", "200", "--price", "0.1"]
    result = CliRunner().invoke(main, ["plan", *flags, "--out", str(out)])
    assert result.exit_code == 0, result.output
    plan = json.loads(out.read_text())
    assert [load["images_per_s"] for load in plan["loads"]] == [100, 10_000, 1_000_000]
    assert plan["loads"][2]["replicas"] > 500
    assert plan["settings"]["price"] == 0.1


def test_an_impossible_limit_is_an_error(costs: ModelCosts, tmp_path: Path) -> None:
    replace(costs, row_s=0.01).save(tmp_path / "costs.json")
    flags = ["--costs", str(tmp_path / "costs.json"), "--p99-ms", "0.1", "--requests", "100"]
    result = CliRunner().invoke(main, ["plan", *flags, "--out", str(tmp_path / "plan.json")])
    assert result.exit_code == 1
    assert "on an idle server: allow more" in result.output


def test_a_check_without_a_curve_is_an_error(costs: ModelCosts, tmp_path: Path) -> None:
    costs.save(tmp_path / "costs.json")
    (tmp_path / "curve.json").write_text('{"visits": []}')
    flags = ["--costs", str(tmp_path / "costs.json"), "--curve", str(tmp_path / "curve.json")]
    result = CliRunner().invoke(main, ["check", *flags, "--out", str(tmp_path / "check.json")])
    assert result.exit_code == 1
    assert "no closed loop 1x128 of 'ours'" in result.output
