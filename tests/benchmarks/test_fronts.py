from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.fronts import FRONTS, main, serving


@pytest.mark.parametrize("front", FRONTS)
def test_a_server_process_of_a_front_listens_and_tells_its_processor_time(front: str) -> None:
    with serving(front, 100) as server:
        assert server.port > 0
        first_s = server.cpu_s
        assert 0 < first_s <= server.cpu_s


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
def test_both_fronts_are_measured_and_compared(tmp_path: Path) -> None:
    flags = [
        "--sizes",
        "1000",
        "--callers",
        "2",
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--out",
        str(tmp_path / "out.json"),
    ]
    result = CliRunner().invoke(main, flags, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["front"] for row in rows] == list(FRONTS)
    assert all(row["requests/s"] > 0 and row["CPU us"] > 0 for row in rows)
    assert rows[1]["of aio"] == 1
