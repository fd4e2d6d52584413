from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import access_log
from server.access_log import MAX_REASON_LENGTH, MAX_TEXT_LENGTH, AccessLog, _safe
from server.errors import StartupError
from server.request import InFlightRequest
from server.trace_context import TraceContext

OpenLog = Callable[[], AccessLog]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.jsonl"


@pytest.fixture
def open_log(path: Path) -> Iterator[OpenLog]:
    """Opens logs; closes them at the end."""
    logs: list[AccessLog] = []

    def open_one() -> AccessLog:
        logs.append(AccessLog.open(str(path)))
        return logs[-1]

    yield open_one
    for log in logs:
        log.close()


def call(**fields: Any) -> InFlightRequest:
    return InFlightRequest(
        **{"method": "Generate", "began_s": time.perf_counter(), "request_id": "r1", "model": "tiny", **fields}
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_until_written(log: AccessLog, path: Path) -> None:
    for _ in range(1000):
        if path.read_text():
            return
        log._closing.wait(0.01)
    raise AssertionError("nothing was written")


def test_a_line_has_every_field_of_a_request(path: Path, open_log: OpenLog) -> None:
    log = open_log()
    before = datetime.now(UTC)
    log.write(
        call(began_s=time.perf_counter() - 2, version=3, rows=4, admission_s=0.0015, compute_s=0.25, encode_s=0.001),
        "ipv4:127.0.0.1:5",
        "OK",
    )
    log.close()
    (line,) = lines(path)
    assert before <= datetime.fromisoformat(line.pop("time")) <= datetime.now(UTC)
    assert 2000 <= line.pop("duration_ms") < 60_000
    assert line == {
        "request_id": "r1",
        "trace_id": "",
        "peer": "ipv4:127.0.0.1:5",
        "method": "Generate",
        "model": "tiny",
        "version": 3,
        "rows": 4,
        "status": "OK",
        "reason": "",
        "admission_ms": 1.5,
        "compute_ms": 250.0,
        "encode_ms": 1.0,
    }


def test_a_line_has_the_trace_of_the_caller(path: Path, open_log: OpenLog) -> None:
    log = open_log()
    log.write(call(trace=TraceContext("a" * 32, "b" * 16)), "peer", "OK")
    log.close()
    assert lines(path)[0]["trace_id"] == "a" * 32


def test_times_are_utc(path: Path, open_log: OpenLog) -> None:
    log = open_log()
    log.write(call(), "peer", "OK")
    log.close()
    assert lines(path)[0]["time"].endswith("Z")


def test_a_refusal_has_its_reason_and_no_phases(path: Path, open_log: OpenLog) -> None:
    log = open_log()
    log.write(call(), "peer", "INVALID_ARGUMENT", "seeded.count is 0")
    log.close()
    (line,) = lines(path)
    assert (line["status"], line["reason"], line["compute_ms"]) == ("INVALID_ARGUMENT", "seeded.count is 0", None)


def test_lines_keep_their_order_and_are_appended(path: Path, open_log: OpenLog) -> None:
    for start in (0, 50):
        log = open_log()
        for rows in range(start, start + 50):
            log.write(call(rows=rows), "peer", "OK")
        log.close()
    assert [line["rows"] for line in lines(path)] == list(range(100))


def test_lines_are_written_while_the_log_is_open(path: Path, open_log: OpenLog) -> None:
    log = open_log()
    log.write(call(), "peer", "OK")
    wait_until_written(log, path)
    assert len(lines(path)) == 1


def test_client_text_is_escaped_and_truncated(path: Path, open_log: OpenLog) -> None:
    log = open_log()
    log.write(call(model='a"\n\x1b[31m\u009bé' + "x" * 1000, request_id="\ud800"), "p" * 1000, "NOT_FOUND", "w" * 9000)
    log.close()
    text = path.read_text()
    assert text.isascii()
    assert text.count("\n") == 1
    (line,) = lines(path)
    assert line["model"].startswith('a"\\n\\x1b[31m\\x9b\\xe9xxx')
    assert (len(line["peer"]), len(line["reason"])) == (MAX_TEXT_LENGTH, MAX_REASON_LENGTH)
    assert line["request_id"] == "\\ud800"


@given(st.text(st.characters(), max_size=300))
def test_any_text_is_escaped(text: str) -> None:
    safe = _safe(text)
    assert safe.isascii()
    assert safe.isprintable()
    assert len(safe) <= len("\\U0010ffff") * MAX_TEXT_LENGTH


def test_dash_is_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    log = AccessLog.open("-")
    log.write(call(), "peer", "OK")
    log.close()
    assert json.loads(capfd.readouterr().out)["model"] == "tiny"
    os.fstat(1)  # it is still open


@pytest.mark.parametrize("name", [".", "nowhere/access.jsonl", "null\0byte"])
def test_a_path_that_cannot_be_written_is_named_with_its_flag(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartupError, match=r"^--access-log: cannot write '.*' .*; name a file in a writable folder"):
        AccessLog.open(f"{tmp_path}/{name}")


def test_a_closed_pipe_loses_lines_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = AccessLog(writer, "a pipe")
    for _ in range(3):
        log.write(call(), "peer", "OK")
        log._write_waiting()
    log.close()
    assert caplog.messages == ["--access-log: lines are lost, because a pipe cannot be written (Broken pipe)"]


def test_lines_are_complete_again_after_the_disk_was_full(
    path: Path, open_log: OpenLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_log, "_PAUSE_S", 60.0)
    log = open_log()
    really_write = os.write
    room = [10, 0]  # bytes that still fit, per call

    def write(descriptor: int, data: memoryview) -> int:
        if not room:
            return really_write(descriptor, data)
        if not (fitting := room.pop(0)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really_write(descriptor, data[:fitting])

    monkeypatch.setattr(os, "write", write)
    log.write(call(rows=1), "peer", "OK")
    log._write_waiting()
    log.write(call(rows=2), "peer", "OK")
    log.close()
    torn, whole = path.read_text().splitlines()
    assert len(torn) == 10
    assert json.loads(whole)["rows"] == 2
    assert "No space left on device" in caplog.text


def test_too_many_waiting_lines_are_dropped(
    path: Path, open_log: OpenLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_log, "_PAUSE_S", 60.0)
    monkeypatch.setattr(access_log, "MAX_WAITING_LINES", 2)
    log = open_log()
    for rows in range(5):
        log.write(call(rows=rows), "peer", "OK")
    log.close()
    assert [line["rows"] for line in lines(path)] == [0, 1]
    assert "lines arrive faster than they can be written" in caplog.text


def test_a_pipe_without_a_reader_does_not_block_closing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_log, "_CLOSE_TIMEOUT_S", 0.05)
    reader, writer = os.pipe()
    log = AccessLog(writer, "a pipe")
    for _ in range(2000):  # more than a pipe holds
        log.write(call(), "p" * 100, "OK")
    with caplog.at_level(logging.WARNING):
        log.close()
    assert caplog.messages == ["--access-log: a pipe blocks, so the last lines are lost"]
    os.close(reader)  # lets the thread end
    log._thread.join(20)
    assert not log._thread.is_alive()


def test_reopening_writes_to_a_new_file_after_a_rotation(path: Path, open_log: OpenLog) -> None:
    log = open_log()
    log.write(call(request_id="old"), "peer", "OK")
    wait_until_written(log, path)
    rotated = path.rename(path.with_suffix(".1"))
    log.reopen()
    log.write(call(request_id="new"), "peer", "OK")
    log.close()
    assert [line["request_id"] for line in lines(rotated)] == ["old"]
    assert [line["request_id"] for line in lines(path)] == ["new"]


def test_a_file_that_cannot_be_opened_again_stays_open(
    path: Path, open_log: OpenLog, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log()
    rotated = path.rename(path.with_suffix(".1"))
    path.mkdir()
    log.reopen()
    log.write(call(request_id="kept"), "peer", "OK")
    log.close()
    assert [line["request_id"] for line in lines(rotated)] == ["kept"]
    assert "cannot be opened again (Is a directory); lines go to the file that was open" in caplog.text
