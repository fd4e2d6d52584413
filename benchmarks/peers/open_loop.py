"""Open loop: a Poisson stream of requests at a fixed rate, independent of the answers.

    python -m benchmarks.peers.open_loop PORT BODY_FILE RATE SECONDS

Latency counts from the time a request was due, not from when it was sent: otherwise a client that a slow server delays
would hide that delay (coordinated omission). Prints one JSON object. Runs in a separate process.
"""

from __future__ import annotations

import contextlib
import json
import math
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.closed_loop import LoadError
from benchmarks.peers.grpc_connection import ConnectionEnded, GrpcConnection
from benchmarks.peers.wire import MODEL_INFER

_CONNECTIONS = 4
_WARM_UP_S = 1.0
_TIMEOUT_S = 20.0
_GRACE_S = 60.0


class Stream(NamedTuple):
    """Requests of one row, sent at a rate. Those of the warm-up are not counted.

    `answered_per_s` counts until the last answer. `late_p99_ms` is the delay of the client itself, and `client_cores`
    the CPU time that it used over the elapsed time.
    """

    rate_per_s: float
    sent: int
    failed: int
    p50_ms: float
    p99_ms: float
    late_p99_ms: float
    answered_per_s: float = math.nan
    client_cores: float = math.nan
    server_cores: float = math.nan  # here and below, its caller measures
    other_cores: float = math.nan


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


def stream(port: int, message: bytes, rate_per_s: float, seconds: float, warm_up_s: float = _WARM_UP_S) -> Stream:
    """Sends `message` at a rate for `warm_up_s` and then for `seconds`, and waits for the answers.

    Raises:
        LoadError: the server closed a connection, or did not answer in time.
    """
    connections = [GrpcConnection(port, MODEL_INFER, message) for _ in range(_CONNECTIONS)]
    try:
        return _stream(connections, rate_per_s, seconds, warm_up_s)
    except ConnectionEnded as error:
        raise LoadError(str(error)) from error
    finally:
        for connection in connections:
            connection.close()


def _stream(connections: list[GrpcConnection], rate_per_s: float, seconds: float, warm_up_s: float) -> Stream:
    with contextlib.suppress(OSError):  # otherwise the kernel may wake us 50 us late; not every kernel offers it
        Path("/proc/self/timerslack_ns").write_text("1")
    offsets = arrivals_s(rate_per_s, warm_up_s + seconds)
    count, first = len(offsets), int(np.searchsorted(offsets, warm_up_s))
    sent_at, ended_at = np.zeros(count), np.full(count, np.nan)
    answer_bytes = np.zeros(count, np.int64)
    by_socket = {connection.socket: connection for connection in connections}
    used_s, began = time.process_time(), time.perf_counter() + 0.01
    due: list[float] = (began + offsets).tolist()
    number, answered = 0, 0
    gives_up = due[-1] + _TIMEOUT_S
    while answered < count:
        now = time.perf_counter()
        while number < count and due[number] <= now:
            connections[number % len(connections)].request(number)
            sent_at[number] = now
            number += 1
        writing = []
        for connection in connections:
            if connection.has_more_to_send:
                connection.flush()
                if connection.has_more_to_send:
                    writing.append(connection.socket)
        now = time.perf_counter()
        if now > gives_up:
            raise LoadError(f"{count - answered} of {count} requests were not answered within {_TIMEOUT_S:g} s")
        wait_s = max(0.0, due[number] - now) if number < count else 1.0
        readable, _, _ = select.select(by_socket, writing, [], wait_s)
        for each in readable:
            ended = by_socket[each].receive()
            now = time.perf_counter()
            for which, size in ended:
                ended_at[which] = now
                answer_bytes[which] = size
            answered += len(ended)
    client_cores = (time.process_time() - used_s) / (time.perf_counter() - began)
    return _summary(
        rate_per_s, np.array(due)[first:], sent_at[first:], ended_at[first:], answer_bytes[first:]
    )._replace(client_cores=client_cores)


def _summary(
    rate_per_s: float,
    due: NDArray[np.float64],
    sent_at: NDArray[np.float64],
    ended_at: NDArray[np.float64],
    answer_bytes: NDArray[np.int64],
) -> Stream:
    is_answer = answer_bytes > 0
    p50 = p99 = math.nan
    answered_per_s = 0.0
    if is_answer.any():
        p50, p99 = map(float, np.percentile((ended_at - due)[is_answer] * 1e3, (50, 99)))
        answered_per_s = float(is_answer.sum() / (ended_at.max() - due[0]))
    late = float(np.percentile((sent_at - due) * 1e3, 99))
    return Stream(rate_per_s, len(due), int((~is_answer).sum()), p50, p99, late, answered_per_s)


if __name__ == "__main__":
    _, port_text, body_file, rate, length = sys.argv
    result = stream(int(port_text), Path(body_file).read_bytes(), float(rate), float(length))
    print(json.dumps(result._asdict()))
