"""Signals reach a process, so these tests start one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import grpc
import pytest

from ganserve.v1 import generator_pb2 as pb
from ganserve.v1.generator_pb2_grpc import GeneratorStub

REPOSITORY_ROOT = Path(__file__).parents[2]

# Loads only after a line on stdin, so that the signals come before.
WAITING_LOADER = """
import signal
import sys
signal.signal(signal.SIGQUIT, signal.SIG_IGN)  # as a shell starts a job in the background
from server.__main__ import main
from server.models.lifecycle import Models
load_all = Models.load_all
async def wait(models):
    import asyncio
    print("loading", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await load_all(models)
Models.load_all = wait
main()
"""


@pytest.fixture
def access_log(tmp_path: Path) -> Path:
    return tmp_path / "access.jsonl"


@pytest.fixture
def process(repository: Path, access_log: Path) -> Iterator[subprocess.Popen[str]]:
    """A server that waits for a line before it loads its models."""
    addresses = ["--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]
    flags = ["--models", str(repository), "--device", "cpu", *addresses, "--access-log", str(access_log)]
    with subprocess.Popen(
        [sys.executable, "-c", WAITING_LOADER, *flags],
        cwd=REPOSITORY_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        yield started
        started.kill()


def assert_it_survives_unexpected_signals(process: subprocess.Popen[str]) -> None:
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGPIPE, signal.SIGUSR1):
        process.send_signal(number)
    read_until(process.stderr, "most recent call first")  # the stacks that SIGUSR1 asks for
    assert process.poll() is None


def read_until(stream: IO[str] | None, text: str) -> str:
    assert stream is not None
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"it ended without a line with {text!r}")


def test_no_signal_ends_it_unless_it_should(process: subprocess.Popen[str], access_log: Path) -> None:
    read_until(process.stdout, "loading")
    assert_it_survives_unexpected_signals(process)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    address = read_until(process.stdout, "ready: ").partition(" on ")[2].partition(",")[0]
    assert_it_survives_unexpected_signals(process)

    rotated = access_log.rename(access_log.with_name("access.jsonl.1"))
    process.send_signal(signal.SIGHUP)
    with grpc.insecure_channel(address) as channel:
        stub: Any = GeneratorStub(channel)  # type: ignore[no-untyped-call]  # generated
        request = pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(seed=1, count=1))
        for _ in range(1000):  # lines may go to the old file for a moment
            stub.Generate(request, timeout=20)
            if access_log.exists() and access_log.read_text():
                break
    lines = [*rotated.read_text().splitlines(), *access_log.read_text().splitlines()]
    assert access_log.read_text()
    assert {json.loads(line)["status"] for line in lines} == {"OK"}

    process.send_signal(signal.SIGQUIT)
    assert process.stderr is not None
    stacks = process.stderr.read()  # to its end: a full pipe would keep the process from ending
    assert "most recent call first" in stacks
    assert process.wait(timeout=20) == -signal.SIGQUIT
