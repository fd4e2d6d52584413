"""Measures `ModelCosts`: engines without a server, and the CPU time of the server's threads in closed loops.

Nothing here is a latency or a throughput of the server under an open load, so these may be predicted from it.

The CPU time of the front is that of a server of a blank model, which has the same inputs and outputs and computes
almost nothing. With one caller, each thread sleeps before each request; with 32 callers, it hardly does.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.peers import closed_loop, open_loop
from benchmarks.peers.catalogue import ours
from benchmarks.peers.closed_loop import Cell
from benchmarks.peers.graphs import make_graphs
from benchmarks.peers.process_table import ServerProcess
from benchmarks.peers.served_graph import ServedGraph
from benchmarks.peers.visit import wait_for_first_answer, wait_until_idle
from benchmarks.peers.wire import OpenInference
from benchmarks.scaling.costs import ModelCosts, ThreadCosts
from exporter.export import export, plan_export
from exporter.source import Source
from ganserve.bundle import MAX_BATCH_ROWS, OUTPUT_IMAGES, LatentInput, read_card
from ganserve.machine import usable_cores
from server.config import ServerConfig
from server.engines.loading import load_instances
from server.scheduling.instances import GroupLimits, Instance, LoadedInstances

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
_IMAGES: Final = frozenset({OUTPUT_IMAGES})
_RUN_S: Final = 0.25
_ROUNDS: Final = 3
_LOAD_S: Final = 2
_LIGHT_PER_S: Final = 500.0
_HEAVY_SHARE: Final = 0.6  # of the throughput in a closed loop
_SETTLE_S: Final = 1.5  # until the engine has built its session without pixels
_NETWORK: Final = ("event_engine", "grpc")  # names of gRPC's threads


class BatchTime(NamedTuple):
    """Seconds of a batch: alone, and while every engine computes one."""

    rows: int
    alone_s: float
    beside_s: float


class EngineTimes(NamedTuple):
    """The engines of a model; `fit_error` is the largest relative error of `batch_s + rows * row_s`."""

    batches: list[BatchTime]
    wide_s: float
    limits: GroupLimits
    quick_rows: int
    engines: int
    batch_s: float
    row_s: float
    fit_error: float
    beside_factor: float

    def compute_s(self, rows: float) -> float:
        """The fitted seconds of a batch."""
        return self.batch_s + rows * self.row_s


class ThreadTimes(NamedTuple):
    """CPU time per request of the threads of a server, in seconds, and the rows of a batch."""

    loop_s: float
    others_s: float
    network_s: float  # those of `others_s` that have a name of gRPC's
    batch_rows: float
    requests_per_s: float


def fit_line(batches: list[tuple[int, float]]) -> tuple[float, float, float]:
    """Fits a line to seconds by rows, with the least relative errors; returns intercept >= 0, slope, largest error."""
    rows, seconds = (np.array(column, float) for column in zip(*batches, strict=True))
    design = np.stack([1 / seconds, rows / seconds], axis=1)
    intercept, slope = np.linalg.lstsq(design, np.ones(len(rows)), rcond=None)[0]
    if intercept < 0:
        intercept, slope = 0.0, float((rows / seconds).sum() / ((rows / seconds) ** 2).sum())
    error = np.abs((intercept + slope * rows) / seconds - 1).max()
    return float(intercept), float(slope), float(error)


def thread_costs(one_s: float, many_s: float) -> ThreadCosts:
    """The costs of a thread, from its CPU time per request if it sleeps before each one, and if it never sleeps."""
    request_s = max(0.0, many_s)
    return ThreadCosts(max(0.0, one_s - request_s), request_s)


def measure_engines(graph: ServedGraph) -> EngineTimes:
    """Times the engines that a server would load."""
    (version,) = (path for path in (graph.repository / graph.name).iterdir() if path.is_dir())
    loaded = load_instances(version, read_card(version), ServerConfig(models=graph.repository))
    try:
        return _time_instances(loaded, graph)
    finally:
        loaded.groups.close()


def _time_instances(loaded: LoadedInstances, graph: ServedGraph) -> EngineTimes:
    instances = loaded.groups.instances
    narrow = [each for each in instances if each.group == "narrow"]
    wide = next((each for each in instances if each.group == "wide"), None)
    latents = graph.latents(max(BATCHES))
    for each in instances:
        each.run(latents, _IMAGES)
    time.sleep(_SETTLE_S)
    found: dict[int, tuple[list[float], list[float]]] = {rows: ([], []) for rows in BATCHES}
    wide_s = []
    for _ in range(_ROUNDS):
        for rows, (alone, beside) in found.items():
            alone.append(_median_run_s(narrow[:1], latents[:rows]))
            beside.append(_median_run_s(narrow, latents[:rows]))
        if wide is not None:
            wide_s.append(_median_run_s([wide], latents[:1]))
    batches = [BatchTime(rows, min(alone), min(beside)) for rows, (alone, beside) in found.items()]
    batch_s, row_s, fit_error = fit_line([(each.rows, each.alone_s) for each in batches])
    return EngineTimes(
        batches=batches,
        wide_s=min(wide_s, default=0.0),
        limits=loaded.groups.limits,
        quick_rows=narrow[0].quick_rows,
        engines=len(narrow),
        batch_s=batch_s,
        row_s=row_s,
        fit_error=fit_error,
        beside_factor=statistics.median(max(1.0, each.beside_s / each.alone_s) for each in batches),
    )


def _median_run_s(instances: list[Instance], latents: NDArray[np.float32]) -> float:
    durations_s: list[float] = []
    start = threading.Barrier(len(instances))

    def run(instance: Instance) -> None:
        start.wait()
        ends = time.perf_counter() + _RUN_S
        while (began := time.perf_counter()) < ends:
            instance.run(latents, _IMAGES)
            durations_s.append(time.perf_counter() - began)

    threads = [threading.Thread(target=run, args=(instance,)) for instance in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.median(durations_s)


class _Blank(nn.Module):
    """Computes almost nothing, and depends on the latents."""

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        self._image_shape = image_shape

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.tanh(latents[:, :1, None, None]).expand(-1, *self._image_shape) * 1.0


def make_blank(graph: ServedGraph, folder: Path) -> ServedGraph:
    """Exports a blank model with the inputs and outputs of another."""
    name = f"blank-{graph.name}"
    latent_input = LatentInput(latent_dim=graph.latent_dim)
    source = Source(_Blank(graph.image_shape).eval(), latent_input, name, "blank", "blank", "")
    export(source, plan_export(folder, name, None))
    return ServedGraph(name, graph.latent_dim, graph.image_shape, folder, graph.graph)


class LoadedServer:
    """Our server with one model, to be loaded."""

    def __init__(self, process: ServerProcess, protocol: OpenInference, port: int, graph: ServedGraph) -> None:
        self._process, self._protocol, self._port, self._graph = process, protocol, port, graph

    def closed(self, cell: Cell, seconds: int = _LOAD_S) -> ThreadTimes:
        """CPU time per request in a closed loop."""
        message = self._protocol.message(self._graph, cell.rows)
        size = len(self._protocol.send(self._port, message)) + self._protocol.overhead_bytes
        before, began = self._snapshot(), time.monotonic()
        closed_loop.drive(self._process, self._protocol, self._port, message, size, cell, seconds)
        return self._times(before, cell.rows, time.monotonic() - began)

    def client_s(self, rate_per_s: float, seconds: float = _LOAD_S) -> float:
        """CPU time of the open loop's client per request."""
        message = self._protocol.message(self._graph, 1)
        stream = open_loop.drive(self._process.log.parent, self._port, message, rate_per_s, seconds)
        return stream.client_cores / stream.answered_per_s

    def _snapshot(self) -> tuple[dict[int, tuple[str, float]], int, int]:
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            (found,) = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=self._graph.name)).model_stats
        return thread_times_s(self._process.pid), found.inference_count, found.execution_count

    def _times(self, before: tuple[dict[int, tuple[str, float]], int, int], rows: int, wall_s: float) -> ThreadTimes:
        threads, count, batches = self._snapshot()
        known, count_before, batches_before = before
        requests = (count - count_before) / rows
        used = {
            thread: (name, (seconds - known.get(thread, ("", 0.0))[1]) / requests)
            for thread, (name, seconds) in threads.items()
        }
        others = {thread: each for thread, each in used.items() if thread != self._process.pid}
        return ThreadTimes(
            loop_s=used[self._process.pid][1],
            others_s=sum(seconds for _, seconds in others.values()),
            network_s=sum(seconds for name, seconds in others.values() if name.startswith(_NETWORK)),
            batch_rows=(count - count_before) / max(1, batches - batches_before),
            requests_per_s=requests / wall_s,
        )


def thread_times_s(pid: int) -> dict[int, tuple[str, float]]:
    """Name and CPU time in seconds of each thread of a process; the id of the main thread is that of the process."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            nanoseconds = int((task / "schedstat").read_text().split()[0])
            found[int(task.name)] = ((task / "comm").read_text().strip(), nanoseconds / 1e9)
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return found


@contextmanager
def serving(graph: ServedGraph) -> Iterator[LoadedServer]:
    """Our server with this model, warm and idle."""
    with tempfile.TemporaryDirectory(prefix="scaling-", ignore_cleanup_errors=True) as folder:
        launch = ours("ours", "").prepare(graph, Path(folder))
        protocol = launch.protocol
        assert isinstance(protocol, OpenInference)
        with ServerProcess(launch.command, launch.environment, Path(folder)) as process:
            port, _ = wait_for_first_answer(process, launch, graph)
            wait_until_idle(process)
            server = LoadedServer(process, protocol, port, graph)
            server.closed(Cell(1, 4), 1)  # the first requests for images only start the build of a session
            yield server


def _median(times: list[ThreadTimes]) -> ThreadTimes:
    return ThreadTimes(*(statistics.median(values) for values in zip(*times, strict=True)))


def measure(model: str) -> tuple[ModelCosts, dict[str, Any]]:
    """Measures the costs of a model of `benchmarks.peers.graphs`; returns them and what they are computed from."""
    with tempfile.TemporaryDirectory(prefix="scaling-graphs-") as folder:
        (graph,) = make_graphs(Path(folder), [model])
        blank = make_blank(graph, Path(folder) / "blank")
        engines, idle = measure_engines(graph), measure_engines(blank)
        cells = {"one": Cell(1, 1), "many": Cell(1, 32), "rows": Cell(MAX_BATCH_ROWS, 1)}
        with serving(blank) as server:
            taken: dict[str, list[ThreadTimes]] = {name: [] for name in cells}
            for _ in range(_ROUNDS):
                for name, cell in cells.items():
                    taken[name].append(server.closed(cell))
            front = {name: _median(times) for name, times in taken.items()}
            light_s = server.client_s(_LIGHT_PER_S)
            heavy_s = server.client_s(_HEAVY_SHARE * front["many"].requests_per_s)
        with serving(graph) as server:
            queued = server.closed(Cell(1, 128))
    one, many, rows = front["one"], front["many"], front["rows"]
    many_compute_s = idle.compute_s(many.batch_rows) / many.batch_rows
    loop = thread_costs(one.loop_s - idle.compute_s(1), many.loop_s - many_compute_s)
    network = thread_costs(one.others_s, many.others_s)
    client = thread_costs(light_s / 2, heavy_s / 2)
    more = MAX_BATCH_ROWS - 1
    in_loop_s = idle.compute_s(MAX_BATCH_ROWS) if idle.limits.inline_rows >= MAX_BATCH_ROWS else 0.0
    loop_row_s = max(0.0, rows.loop_s - loop.turn(1, 1, is_woken=True) - in_loop_s) / more
    network_row_s = max(0.0, rows.network_s - one.network_s) / more
    if not engines.limits.inline_rows:  # each request is queued, and its batch handed to a thread
        loop = ThreadCosts(loop.wake_s, max(loop.request_s, queued.loop_s))
    costs = ModelCosts(
        model=model,
        cores=usable_cores(),
        engines=engines.engines,
        batch_s=engines.batch_s,
        row_s=engines.row_s,
        wide_s=engines.wide_s,
        beside_factor=engines.beside_factor,
        inline_rows=engines.limits.inline_rows,
        min_share_rows=engines.limits.min_share_rows,
        wide_rows=engines.limits.wide_rows,
        quick_rows=engines.quick_rows,
        loop=ThreadCosts(loop.wake_s, loop.request_s, loop_row_s),
        network=ThreadCosts(network.wake_s, network.request_s, network_row_s),
        client=client,
        answer_bytes=graph.image_bytes,
    )
    raw = {
        "batches": [each._asdict() for each in engines.batches],
        "fit_error": engines.fit_error,
        "front": {name: times._asdict() for name, times in front.items()},
        "queued": queued._asdict(),
        "client_s": {"light": light_s, "heavy": heavy_s},
    }
    return costs, raw
