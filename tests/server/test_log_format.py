from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from server.__main__ import main
from server.log_format import JsonFormatter

ROOT = Path(__file__).parents[2]


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter().format(record)
    assert text.isascii()
    assert "\n" not in text
    line: dict[str, Any] = json.loads(text)
    return line


def record(message: str, *arguments: object, **settings: Any) -> logging.LogRecord:
    return logging.LogRecord("server.app", logging.WARNING, "app.py", 1, message, arguments, None, **settings)


def test_a_line_has_time_level_logger_and_message() -> None:
    before = datetime.now(UTC)
    line = line_of(record("model %s:\n%d rows é", "tiny", 3))
    assert abs((datetime.fromisoformat(line.pop("time")) - before).total_seconds()) < 60
    assert line == {"level": "WARNING", "logger": "server.app", "message": "model tiny:\n3 rows é"}


def test_an_exception_is_part_of_its_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        failed = record("it failed")
        failed.exc_info = sys.exc_info()
    line = line_of(failed)
    assert line["message"] == "it failed"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: why")


PROGRAM = """
import asyncio, logging, threading, warnings
from server.log_format import configure_logging
configure_logging("info", {format!r})
logging.getLogger("a.b").info("hello %s", "there")
logging.getLogger("a.b").debug("unseen")
warnings.warn("odd", stacklevel=1)
thread = threading.Thread(target=lambda: 1 / 0, name="worker")
thread.start()
thread.join()
async def fail():
    asyncio.get_running_loop().call_soon(lambda: [][0])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(fail())
raise RuntimeError("the end")
"""


def stderr_of(*command: str) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    return done.stderr.splitlines()


def test_every_line_is_json_even_of_warnings_and_of_exceptions_that_nothing_catches() -> None:
    lines = [json.loads(line) for line in stderr_of("-c", PROGRAM.format(format="json"))]
    found = [(line["level"], line["logger"], line["message"].partition(" ")[0]) for line in lines]
    assert found == [
        ("INFO", "a.b", "hello"),
        ("WARNING", "py.warnings", "<string>:7:"),
        ("ERROR", "server.log_format", "uncaught"),
        ("ERROR", "asyncio", "Exception"),
        ("CRITICAL", "server.log_format", "uncaught"),
    ]
    ends = [line.get("exception", "").rpartition("\n")[2].partition(":")[0] for line in lines]
    assert ends == ["", "", "ZeroDivisionError", "IndexError", "RuntimeError"]


def test_text_is_one_line_per_event() -> None:
    lines = stderr_of("-c", PROGRAM.format(format="text"))
    assert lines[0].endswith(" INFO hello there")


def test_a_server_that_cannot_start_says_so_in_json(tmp_path: Path) -> None:
    (line,) = stderr_of(
        "-m",
        "server",
        "--models",
        str(tmp_path / "nowhere"),
        "--log-format",
        "json",
        "--address",
        "127.0.0.1:0",
        "--metrics-address",
        "127.0.0.1:0",
    )
    assert json.loads(line)["level"] == "CRITICAL"
    assert json.loads(line)["message"].startswith("--models: no model repository at")


def test_other_formats_are_refused() -> None:
    result = CliRunner().invoke(main, ["--log-format", "xml"])
    assert result.exit_code == 2
    assert "'xml' is not one of 'text', 'json'" in result.stderr


@pytest.mark.parametrize("format_", ["text", "json"])
def test_levels_are_kept(format_: str) -> None:
    text = "\n".join(stderr_of("-c", PROGRAM.format(format=format_)))
    assert "unseen" not in text
