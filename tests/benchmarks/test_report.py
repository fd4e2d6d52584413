"""Every benchmark prints a table and writes the same rows as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks import serving, train_throughput, training

TINY = ["--width", "0.0625", "--batch-size", "4", "--pictures", "8"]


@pytest.mark.parametrize(
    ("command", "arguments", "rows"),
    [
        (training.main, ["--model", "gan", "--preset", "gan-digits", "--device", "cpu"], 1),
        (serving.main, ["--preset", "dcgan-digits"], 8),
        (train_throughput.main, ["--preset", "dcgan-fmnist32", *TINY, "--device", "cpu"], 3),
    ],
    ids=["training", "serving", "train_throughput"],
)
def test_a_benchmark_prints_a_table_and_writes_the_same_as_json(
    command: click.Command, arguments: list[str], rows: int, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    short = ["--seconds", "0.01", "--rounds", "1", "--out", str(out)]
    result = CliRunner().invoke(command, [*arguments, *short], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert len(written["rows"]) == rows
    assert all(row["images/s"] > 0 for row in written["rows"])
    assert {"processor", "cores", "torch"} <= written["machine"].keys()
    assert written["title"] in " ".join(result.output.split())


def test_an_unknown_preset_is_an_error() -> None:
    result = CliRunner().invoke(training.main, ["--preset", "nonsense"])
    assert result.exit_code == 2
    assert "no preset fits --model, --preset and --max-size" in result.output
