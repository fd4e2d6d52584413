"""Real processes on free loopback ports."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# A guard against a process that hangs; many times what a process needs on a slow machine.
START_TIMEOUT_S = 200


@dataclass(frozen=True)
class RunningServer:
    """Where a server process listens."""

    address: str
    metrics_url: str


@contextlib.contextmanager
def running_server(models: Path, *flags: str) -> Iterator[RunningServer]:
    """A server process that is ready; checks that SIGTERM ends it with exit code 0."""
    arguments = ["--models", str(models), "--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]
    arguments += ["--lame-duck-s", "0", *flags]
    process = subprocess.Popen(
        [sys.executable, "-m", "server", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    guard = threading.Timer(START_TIMEOUT_S, process.kill)
    guard.start()
    drain = threading.Thread(target=lambda: process.stderr and process.stderr.read())
    drain.start()
    try:
        assert process.stdout is not None
        ready = next((line for line in process.stdout if line.startswith("ready:")), None)
        guard.cancel()
        assert ready is not None, "the server ended before it was ready"
        address, _, metrics_url = ready.partition(" on ")[2].partition(", metrics on ")
        yield RunningServer(address, metrics_url.strip())
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_TIMEOUT_S) == 0
    finally:
        guard.cancel()
        process.kill()
        process.wait()
        drain.join()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def run_python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a Python command to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
        cwd=cwd,
    )
