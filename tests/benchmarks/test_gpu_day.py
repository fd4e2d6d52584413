from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import gpu_day
from benchmarks.gpu.__main__ import RECORD_FILE
from benchmarks.gpu.record import RUNNING, read_results
from benchmarks.gpu.stages import STAGES
from server.engines.base import cuda_devices


def dry_run(
    tmp_path: Path, *flags: str, timeout_s: float = 290
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmarks.gpu_day", "--dry-run", "--out", str(out), "--work"]
    finished = subprocess.run(
        [*command, str(tmp_path / "work"), *flags], check=False, capture_output=True, text=True, timeout=timeout_s
    )
    return finished, json.loads((out / "day.json").read_text())


def statuses(stage: dict[str, Any]) -> dict[str, str]:
    return {name: result["status"] for name, result in stage["measurements"].items()}


def test_a_dry_run_begins_every_stage(tmp_path: Path) -> None:
    finished, day = dry_run(tmp_path, "--measurements", "1")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert {name: stage["state"] for name, stage in day["stages"].items()} == dict.fromkeys(STAGES, "complete")
    assert [list(statuses(stage).values()) for stage in day["stages"].values()] == [["done"]] * len(STAGES)
    table = (tmp_path / "out" / "table.txt").read_text()
    for name, stage in day["stages"].items():
        assert f"{name}.log" in zipfile.ZipFile(tmp_path / "out" / f"{name}.zip").namelist()
        assert all(measurement in table for measurement in (name, *stage["measurements"]))
    assert table.strip().splitlines()[-1] in finished.stdout


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_a_dry_run_of_all_stages(tmp_path: Path) -> None:
    finished, day = dry_run(tmp_path, timeout_s=1200)  # a minute on two idle cores
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert {name: stage["state"] for name, stage in day["stages"].items()} == dict.fromkeys(STAGES, "complete")
    results = {name: statuses(stage) for name, stage in day["stages"].items()}
    assert set(results["determinism"].values()) == {"done"}
    assert results["quality"] == {"train all at once": "done", "dcgan digits": "done", "dcgan of nothing": "skipped"}
    skipped = "skipped" if cuda_devices() == 0 else "done"
    assert results["works"].pop("tests that need a GPU") == skipped
    assert set(results["works"].values()) == {"done"}
    assert {"keep/trained.png", "keep/served.png"} <= set(zipfile.ZipFile(tmp_path / "out" / "works.zip").namelist())
    assert set(results["training"].values()) | set(results["serving"].values()) == {"done", "skipped"}
    training, serving = (day["stages"][name]["measurements"] for name in ("training", "serving"))
    assert training["the goal"]["ratio"] > 0
    assert serving["engine gan28: CUDA graphs"]["pixel_difference"] <= 1
    assert serving["server gan28: --cuda-graphs"]["loads"]["1x2"]["images_per_s"] > 0


def stage_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Replaces the stage `works` by a module with this body of `run(settings, record)`."""
    (tmp_path / "stage_of_a_test.py").write_text(f"def run(settings, record):\n    {body}\n")
    (tmp_path / "sitecustomize.py").write_text(
        "import benchmarks.gpu.stages as stages\n"
        "stages.STAGES['works'] = stages.Stage('stage_of_a_test', 100, 'a test')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")


def run_stage(tmp_path: Path, limit_s: float) -> dict[str, Any]:
    day = gpu_day.Day(tmp_path, tmp_path / "work", tmp_path, is_dry=True)
    day.run("works", limit_s)
    stage: dict[str, Any] = json.loads((tmp_path / "day.json").read_text())["stages"]["works"]
    return stage


def test_a_stage_goes_on_in_another_process_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "import os; record.measure('crash', lambda: os.abort()); record.measure('next', lambda: {'summary': 'yes'})"
    stage_program(tmp_path, monkeypatch, body)
    stage = run_stage(tmp_path, 60)
    assert stage["state"] == "complete"
    assert statuses(stage) == {"crash": "failed", "next": "done"}


def test_a_stage_that_fails_outside_a_measurement_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_program(tmp_path, monkeypatch, "raise ValueError('no such luck')")
    assert run_stage(tmp_path, 60)["state"] == "exit code 1: ValueError: no such luck"


def move_clock(monkeypatch: pytest.MonkeyPatch, work: Path, seconds: Callable[[], float]) -> None:
    """Moves the clock of the day forward while its stage makes the measurement `long`."""

    def monotonic() -> float:
        long = read_results(work / "works" / RECORD_FILE).get("long", {})
        return time.monotonic() + (seconds() if long.get("status") == RUNNING else 0.0)

    monkeypatch.setattr(gpu_day, "time", SimpleNamespace(monotonic=monotonic, strftime=time.strftime))


ENDLESS = "record.measure('quick', lambda: {'summary': 'yes'}); record.measure('long', lambda: time.sleep(600))"


def test_a_stage_ends_at_its_limit_with_what_it_has_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    child = f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], stdout=open({str(pipe)!r}, 'w'))"
    stage_program(tmp_path, monkeypatch, f"import subprocess, sys, time; {child}; {ENDLESS}")
    move_clock(monkeypatch, tmp_path / "work", lambda: 1000.0)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    stage = run_stage(tmp_path, 200)
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # nobody is left who could write
    os.close(reader)
    assert stage["state"] == "stopped at its limit of 200 s"
    assert statuses(stage) == {"quick": "done", "long": "stopped"}
    assert "limit of 200 s" in stage["measurements"]["long"]["summary"]


def test_what_is_in_work_when_the_day_is_interrupted_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> float:
        raise KeyboardInterrupt

    stage_program(tmp_path, monkeypatch, f"import time; {ENDLESS}")
    move_clock(monkeypatch, tmp_path / "work", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, 200)
    stage = json.loads((tmp_path / "day.json").read_text())["stages"]["works"]
    assert stage["state"] == "stopped"
    assert statuses(stage) == {"quick": "done", "long": "stopped"}


@pytest.mark.parametrize(
    ("body", "exit_code", "last_line"),
    [
        ("record.measure('one', lambda: {})", 0, "1 done, 0 skipped, 0 failed, 0 stopped"),
        ("record.measure('one', lambda: 1 / 0)", 1, "0 done, 0 skipped, 1 failed, 0 stopped"),
        ("raise ValueError", 1, "not complete: works"),
        (f"import time; {ENDLESS}", 1, "not complete: works"),
    ],
    ids=["complete", "a measurement failed", "a stage failed", "a stage was stopped"],
)
def test_the_exit_code_says_whether_everything_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, exit_code: int, last_line: str
) -> None:
    stage_program(tmp_path, monkeypatch, body)
    move_clock(monkeypatch, tmp_path / "work", lambda: 10_000.0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of this process
    flags = ["--dry-run", "--stages", "works", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    result = CliRunner().invoke(gpu_day.main, flags)
    assert result.exit_code == exit_code
    assert result.output.splitlines()[-1].startswith(last_line)


def test_a_stage_without_time_is_not_begun(tmp_path: Path) -> None:
    assert run_stage(tmp_path, 2)["state"] == "not begun: 2 s left"


def test_an_unknown_stage_is_an_error() -> None:
    result = CliRunner().invoke(gpu_day.main, ["--stages", "works,lunch", "--dry-run"])
    assert result.exit_code == 2
    assert "'lunch': choose from works, training" in result.output


@pytest.mark.skipif(cuda_devices() > 0, reason="CUDA works here")
def test_without_a_gpu_only_a_dry_run_is_possible(tmp_path: Path) -> None:
    result = CliRunner().invoke(gpu_day.main, ["--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "give --dry-run" in result.output
    assert not (tmp_path / "out").exists()
