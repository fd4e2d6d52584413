"""The limit: ONNX Runtime without a server, in a separate process.

    python -m benchmarks.peers.in_process GRAPH LAYOUT ROWS SECONDS

`LAYOUT` 2x1 runs two sessions of one thread each at the same time. Prints one JSON object.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from benchmarks.peers.closed_loop import LoadError
from benchmarks.peers.layout import Layout

_WARM_UP_RUNS = 5
_GRACE_S = 60.0


class Limit(NamedTuple):
    """Throughput of the runtime without a server."""

    images_per_s: float
    run_p50_ms: float


def measure_apart(graph: Path, layout: Layout, rows: int, seconds: float) -> Limit:
    """Calls `measure` in another process.

    Raises:
        LoadError: that process failed.
    """
    command = [sys.executable, "-m", "benchmarks.peers.in_process", str(graph), str(layout), str(rows), str(seconds)]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _GRACE_S, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        detail = (str(error.stderr or "").strip().splitlines() or [str(error)])[-1]
        raise LoadError(f"in process: {detail}") from error
    return Limit(**json.loads(finished.stdout))


def measure(graph: Path, layout: Layout, rows: int, seconds: float) -> Limit:
    """Runs a graph on the same latents for `seconds`, with concurrent sessions."""
    sessions = [_new_session(graph, layout.threads) for _ in range(layout.instances)]
    durations_s: list[float] = []
    start = threading.Barrier(layout.instances)

    def run(session: Any) -> None:
        (latent_input,) = session.get_inputs()
        shape = (rows, latent_input.shape[1])
        inputs = {latent_input.name: np.random.default_rng(0).standard_normal(shape, np.float32)}
        for _ in range(_WARM_UP_RUNS):
            session.run(["images"], inputs)
        start.wait()
        ends = time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends:
            session.run(["images"], inputs)
            durations_s.append(time.perf_counter() - began)

    threads = [threading.Thread(target=run, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    images = rows * len(durations_s)
    return Limit(images * layout.instances / sum(durations_s), statistics.median(durations_s) * 1e3)


def _new_session(graph: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    _, graph_file, layout_text, rows_text, length = sys.argv
    limit = measure(Path(graph_file), Layout.parse(layout_text), int(rows_text), float(length))
    print(json.dumps(limit._asdict()))
