from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks import serving, training

SHORT = ["--seconds", "0.05", "--rounds", "1"]


@pytest.mark.parametrize(
    ("command", "arguments", "rows"),
    [
        (training.main, ["--model", "gan", "--device", "cpu"], 4),
        (serving.main, ["--preset", "dcgan-digits"], 8),
    ],
    ids=["training", "serving"],
)
def test_a_benchmark_prints_a_table_and_writes_the_same_as_json(
    command: click.Command, arguments: list[str], rows: int, tmp_path: Path
) -> None:
    out = tmp_path / "figures.json"
    result = CliRunner().invoke(command, [*arguments, *SHORT, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    written = json.loads(out.read_text())
    assert len(written["rows"]) == rows
    assert all(row["images/s"] > 0 for row in written["rows"])
    assert {"processor", "cores", "torch"} <= written["machine"].keys()
    assert written["title"] in " ".join(result.output.split())
