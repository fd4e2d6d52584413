from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.record import RESTART, RUNNING, Record, Skip, read_results
from ganserve.files import replace_file


def fail() -> dict[str, Any]:
    raise RuntimeError("CUDA error: an illegal memory access\nand more")


def skip() -> dict[str, Any]:
    raise Skip("no such device")


def must_not_run() -> dict[str, Any]:
    raise AssertionError("it was made again")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.json"


def test_measurements_are_on_disk_as_soon_as_they_are_made(path: Path) -> None:
    record = Record(path, lambda: 100.0)

    def measure() -> dict[str, Any]:
        assert read_results(path)["second"]["status"] == RUNNING
        return {"images_per_s": 7, "summary": "7 images/s"}

    record.measure("first", lambda: {"summary": "one"})
    assert read_results(path)["first"]["summary"] == "one"
    record.measure("second", measure)
    assert read_results(path)["second"]["images_per_s"] == record.value("second", "images_per_s") == 7
    assert record.value("third", "images_per_s") is None


def test_a_failure_is_recorded_and_the_next_measurement_made(path: Path) -> None:
    record = Record(path, lambda: 100.0)
    record.measure("broken", fail)
    record.measure("impossible", skip)
    record.measure("fine", lambda: {"summary": "yes"})
    results = read_results(path)
    assert {name: result["status"] for name, result in results.items()} == {
        "broken": "failed",
        "impossible": "skipped",
        "fine": "done",
    }
    assert results["broken"]["summary"] == "RuntimeError: CUDA error: an illegal memory access"
    assert "in fail" in results["broken"]["traceback"]
    assert results["impossible"]["summary"] == "no such device"


def test_a_measurement_without_enough_time_is_skipped(path: Path) -> None:
    record = Record(path, lambda: 9.0)
    record.measure("long", must_not_run, needs_s=10)
    assert read_results(path)["long"] == {"status": "skipped", "summary": "9 s left, needs about 10 s"}


def test_after_a_failure_another_process_goes_on_where_it_ended(path: Path) -> None:
    first = Record(path, lambda: 100.0, restarts=True)
    first.measure("fine", lambda: {"summary": "yes"})
    with pytest.raises(SystemExit) as ended:
        first.measure("broken", fail)
    assert ended.value.code == RESTART
    second = Record(path, lambda: 100.0, restarts=True)
    second.measure("fine", must_not_run)
    second.measure("broken", must_not_run)
    second.measure("next", lambda: {"summary": "too"})
    assert [result["status"] for result in read_results(path).values()] == ["done", "failed", "done"]


def test_a_measurement_during_which_the_process_died_has_failed(path: Path) -> None:
    replace_file(path, b'{"crash": {"status": "running"}}')
    record = Record(path, lambda: 100.0)
    record.measure("crash", must_not_run)
    assert read_results(path)["crash"]["summary"] == "the process ended during this measurement"


def test_a_record_makes_only_as_many_measurements_as_it_may(path: Path) -> None:
    record = Record(path, lambda: 100.0, most=1)
    record.measure("first", lambda: {"summary": "one"})
    record.measure("second", must_not_run)
    assert record.is_full
    assert list(read_results(path)) == ["first"]
