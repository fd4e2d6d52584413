"""A constant number of concurrent requests: drives h2load, and parses its output.

h2load is a C program that speaks HTTP/1.1 and gRPC and uses little of a core. It ignores gRPC's status, so this module
tells answers from errors by their size.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.layout import parse_pair
from benchmarks.peers.process_table import ServerProcess, busy_s
from benchmarks.peers.wire import Protocol

WARM_UP_S: Final = 1.0
_TAIL_S = 1.0  # after the window, so that in-flight requests can finish
_GRACE_S = 60.0
_OK_STATUS = 200
_SUMMARY = re.compile(
    r"^requests: .*? ([0-9]+) done, ([0-9]+) succeeded, ([0-9]+) failed.*?^traffic: .*?\(([0-9]+)\) data",
    re.MULTILINE | re.DOTALL,
)


class LoadError(Exception):
    """A cell could not be measured; the message says why."""


class Cell(NamedTuple):
    """Written as 64x4: four concurrent requests of 64 rows."""

    rows: int
    concurrency: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.concurrency}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Reads "64x4".

        Raises:
            ValueError: the text is not a cell.
        """
        return cls(*parse_pair(text, "cell; write ROWSxCONCURRENCY, such as 64x4", most=9999))


class Summary(NamedTuple):
    """The summary that h2load prints."""

    done: int
    failed: int
    data_bytes: int


class Window(NamedTuple):
    """Counts and latencies in the measured part of a run."""

    requests: float  # a request that is partly inside counts as that part
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Load:
    """The measurement of one cell of one server; cores are CPU time over elapsed time."""

    images_per_s: float
    p50_ms: float
    p99_ms: float
    server_cores: float
    client_cores: float
    other_cores: float


def parse_summary(text: str) -> Summary:
    """Reads h2load's last lines.

    Raises:
        LoadError: there is no summary.
    """
    match = _SUMMARY.search(text)
    if match is None:
        last = (text.strip().splitlines() or ["nothing"])[-1]
        raise LoadError(f"h2load measured nothing: {last}")
    done, _succeeded, failed, data_bytes = map(int, match.groups())
    return Summary(done, failed, data_bytes)


def read_log(path: Path) -> NDArray[np.int64]:
    """h2load's log, one row per request: start in us, HTTP status, duration in us.

    Raises:
        LoadError: no request was answered.
    """
    if not path.is_file() or path.stat().st_size == 0:
        raise LoadError("no request was answered")
    return np.loadtxt(path, np.int64, delimiter="\t", usecols=(0, 1, 2), ndmin=2)


def measure_window(log: NDArray[np.int64], warm_up_s: float, seconds: float) -> Window:
    """Counts and times the answered requests in a window of `seconds` that opens `warm_up_s` after the first request.

    Raises:
        LoadError: no request was answered in the window.
    """
    opens = log[:, 0].min() + round(warm_up_s * 1e6)
    closes = opens + round(seconds * 1e6)
    began, duration = log[log[:, 1] == _OK_STATUS][:, (0, 2)].T
    ended = began + duration
    inside = np.clip(np.minimum(ended, closes) - np.maximum(began, opens), 0, None)
    in_time = (opens <= ended) & (ended <= closes)
    if not in_time.any():
        raise LoadError(f"no request was answered within {seconds:g} s")
    p50, p99 = np.percentile(duration[in_time], (50, 99)) / 1e3
    return Window(float((inside / np.maximum(duration, 1)).sum()), float(p50), float(p99))


def check_answers(summary: Summary, answer_bytes: int) -> None:
    """Checks that the answers were images: in gRPC an error has status 200 too, but almost no body.

    Raises:
        LoadError: they were not.
    """
    images = summary.data_bytes / (max(1, summary.done) * answer_bytes)
    if summary.failed or images < 0.999:
        raise LoadError(f"{summary.failed} of {summary.done} requests failed, and {images:.1%} of the bytes arrived")


def h2load_path() -> str | None:
    """The path of h2load; None if it is not installed."""
    return shutil.which("h2load")


def drive(
    server: ServerProcess, protocol: Protocol, port: int, message: bytes, answer_bytes: int, cell: Cell, seconds: int
) -> Load:
    """Sends `message` to a server, `cell.concurrency` at a time.

    Args:
        server: the server to measure.
        protocol: its protocol.
        port: its port on 127.0.0.1.
        message: a request of `cell.rows` rows.
        answer_bytes: length of the body of its answer.
        cell: rows and concurrency.
        seconds: length of the measurement, after a warm-up.

    Raises:
        LoadError: the answers were not images.
    """
    h2load = h2load_path()
    assert h2load is not None
    folder = server.log.parent
    body, log = folder / "request.body", folder / "requests.log"
    body.write_bytes(protocol.body(message))
    log.unlink(missing_ok=True)  # h2load appends
    duration_s = round(WARM_UP_S + seconds + _TAIL_S)
    command = [h2load, "-t", "1", "-D", str(duration_s), "-d", str(body), "--log-file", str(log)]
    command += [*protocol.load_flags(cell.concurrency), f"http://127.0.0.1:{port}{protocol.path}"]

    began, server_s, machine_s, client_s = time.monotonic(), server.cpu_s(), busy_s(), _children_s()
    try:
        finished = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=duration_s + _GRACE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"h2load did not stop within {_GRACE_S:g} s after its duration") from error
    wall_s = time.monotonic() - began
    server_s, client_s = server.cpu_s() - server_s, _children_s() - client_s
    other_s = max(0.0, busy_s() - machine_s - server_s - client_s)

    check_answers(parse_summary(finished.stdout), answer_bytes)
    window = measure_window(read_log(log), WARM_UP_S, seconds)
    return Load(
        images_per_s=window.requests * cell.rows / seconds,
        p50_ms=window.p50_ms,
        p99_ms=window.p99_ms,
        server_cores=server_s / wall_s,
        client_cores=client_s / wall_s,
        other_cores=other_s / wall_s,
    )


def _children_s() -> float:
    """CPU time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
