from __future__ import annotations

from pathlib import Path

import pytest

from trainer.errors import RunFolderError
from trainer.runs.metrics_log import MetricsLog


@pytest.fixture
def log(tmp_path: Path) -> MetricsLog:
    return MetricsLog(tmp_path / "metrics.jsonl")


def append_raw(log: MetricsLog, line: bytes) -> None:
    with log.path.open("ab") as file:
        file.write(line)


def test_rows_are_read_back_as_written(log: MetricsLog) -> None:
    rows = [
        {"kind": "step", "step": 1, "d_loss": 0.5, "g_loss": None, "resolution": 4},
        {"kind": "evaluation", "step": 1, "levels": [1.5, 2.5], "split": "test"},
    ]
    log.append(rows[:1])
    log.append(rows[1:])
    assert list(log.read()) == rows


def test_a_log_that_was_never_written_is_empty(log: MetricsLog) -> None:
    assert list(log.read()) == []


def test_metrics_are_cut_back_to_the_checkpoint_and_a_torn_last_line_is_dropped(log: MetricsLog) -> None:
    log.append([{"kind": "step", "step": step} for step in range(1, 6)])
    append_raw(log, b'{"kind": "st')
    log.rewind(3)
    assert [row["step"] for row in log.read()] == [1, 2, 3]
    log.append([{"kind": "step", "step": 4}])
    assert [row["step"] for row in log.read()] == [1, 2, 3, 4]


@pytest.mark.parametrize("line", ["{}", "[1]", '{"kind":"step"}', '{"kind":"step","step":"1"}', "[" * 9999, "\xff"])
def test_an_invalid_line_is_refused_with_its_number(log: MetricsLog, line: str) -> None:
    log.append([{"kind": "step", "step": 1}])
    append_raw(log, line.encode("latin-1") + b"\n")
    with pytest.raises(RunFolderError, match=r"metrics.jsonl, line 2: not a line of metrics"):
        list(log.read())


def test_warnings_that_the_end_of_a_run_repeats_are_dropped_by_name(log: MetricsLog) -> None:
    log.append([{"kind": "warning", "step": step, "name": name} for step, name in ((1, "a"), (2, "b"), (3, "c"))])
    log.append([{"kind": "evaluation", "step": 2, "name": "b"}])
    log.rewind(2, warnings=("b",))
    assert [(row["kind"], row["name"]) for row in log.read()] == [("warning", "a"), ("evaluation", "b")]
