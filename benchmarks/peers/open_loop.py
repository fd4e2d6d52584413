"""Open loop: a Poisson stream of requests at a fixed rate, independent of the answers.

    python -m benchmarks.peers.open_loop PORT BODY_FILE RATE SECONDS

Latency counts from the time a request was due, not from when it was sent: otherwise a client that a slow server delays
would hide that delay (coordinated omission). Prints one JSON object. Runs in a separate process.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.closed_loop import LoadError
from benchmarks.peers.wire import MODEL_INFER

_CONNECTIONS = 4
_TIMEOUT_S = 20.0
_GRACE_S = 60.0


class Stream(NamedTuple):
    """Requests of one row, sent at a rate; `late_p99_ms` is the delay of the client itself."""

    rate_per_s: float
    sent: int
    failed: int
    p50_ms: float
    p99_ms: float
    late_p99_ms: float


def arrivals_s(rate_per_s: float, seconds: float) -> NDArray[np.float64]:
    """The due times of requests, from 0; equal rates give equal times, so that every server gets the same bursts."""
    generator = np.random.default_rng(0)
    gaps = generator.exponential(1 / rate_per_s, round(2 * rate_per_s * seconds) + 100)
    due = gaps.cumsum()
    return due[due < seconds]


def drive(folder: Path, port: int, message: bytes, rate_per_s: float, seconds: float) -> Stream:
    """Sends `message` to ModelInfer on 127.0.0.1 from another process.

    Raises:
        LoadError: that process failed.
    """
    body = folder / "open_loop.body"
    body.write_bytes(message)
    command = [sys.executable, "-m", "benchmarks.peers.open_loop", str(port), str(body), str(rate_per_s), str(seconds)]
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + _TIMEOUT_S + _GRACE_S, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        detail = (str(error.stderr or "").strip().splitlines() or [str(error)])[-1]
        raise LoadError(f"the open loop failed: {detail}") from error
    result = Stream(**json.loads(finished.stdout))
    if result.failed == result.sent:
        raise LoadError(f"the open loop failed: no answer to {result.sent} requests")
    return result


async def stream(port: int, message: bytes, rate_per_s: float, seconds: float) -> Stream:
    """Sends `message` at a rate and waits for all answers."""
    # Channels with the same arguments would share a connection.
    channels = [
        grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1), ("ganserve.channel", number)]
        )
        for number in range(_CONNECTIONS)
    ]
    methods: list[Any] = [channel.unary_unary(MODEL_INFER) for channel in channels]
    for method in methods:  # connects
        await method(message, timeout=_TIMEOUT_S)
    waits_ms: list[float] = []
    lates_ms: list[float] = []
    failed = 0

    async def send(due: float, method: Any) -> None:
        nonlocal failed
        lates_ms.append((time.perf_counter() - due) * 1e3)
        try:
            await method(message, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            failed += 1
        else:
            waits_ms.append((time.perf_counter() - due) * 1e3)

    tasks = []
    began = time.perf_counter()
    for number, offset in enumerate(arrivals_s(rate_per_s, seconds)):
        due = began + offset
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        tasks.append(asyncio.create_task(send(due, methods[number % _CONNECTIONS])))
    await asyncio.gather(*tasks)
    for channel in channels:
        await channel.close()
    p50, p99 = np.percentile(waits_ms, (50, 99)) if waits_ms else (float("nan"), float("nan"))
    return Stream(rate_per_s, len(tasks), failed, float(p50), float(p99), float(np.percentile(lates_ms, 99)))


if __name__ == "__main__":
    _, port_text, body_file, rate, length = sys.argv
    # epoll, the default of asyncio, has a resolution of 1 ms.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        result = runner.run(stream(int(port_text), Path(body_file).read_bytes(), float(rate), float(length)))
    print(json.dumps(result._asdict()))
