"""The CUDA engine in several settings, and the real server around it against that engine in this process."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np

from benchmarks.gpu.record import Record, Skip
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.stand_in import cuda_stand_in
from benchmarks.peers.graphs import make_graphs
from benchmarks.serving import server_process
from ganserve.bundle import OUTPUT_PIXELS, BundleError, Card, example_rows, read_card
from server.config import Precision
from server.engines import onnx_cuda
from server.engines.base import read_graph
from server.engines.loading import load_engine
from server.engines.onnx_cuda import CudaOnnxEngine

ROWS: Final = (1, 8, 64, 256)
_ALTERNATING: Final = (8, 16)
_SIZES: Final = (1, 8, 16, 64, 256)
_PIXELS: Final = frozenset({OUTPUT_PIXELS})
_WARM_UPS: Final = 3
_CLIENTS: Final = 4  # processes, so that the clients are not the limit
_GOAL_SHARE: Final = 0.9
_GOAL_MS: Final = 1.0


@dataclass(frozen=True)
class Engine:
    """One group of settings of the engine; the defaults are the server's."""

    name: str
    provider: Mapping[str, str] = field(default_factory=dict)
    precision: Precision = "fp32"
    cuda_graphs: bool = False
    has_one_session: bool = False

    def measurement(self, model: str) -> str:
        """In the table."""
        return f"engine {model}: {self.name}"


@dataclass(frozen=True)
class Load:
    """What clients send."""

    rows: int
    concurrency: int
    clients: int = 1
    image_format: str = "pixels"

    def __str__(self) -> str:
        form = "" if self.image_format == "pixels" else f" {self.image_format}"
        return f"{self.rows}x{self.concurrency * self.clients}{form}"


DEFAULT: Final = Engine("default (fp32, HEURISTIC, a session per size)")
GRAPHS: Final = Engine("CUDA graphs", cuda_graphs=True)
FP16: Final = Engine("fp16", precision="fp16")
FP16_GRAPHS: Final = Engine("fp16, CUDA graphs", precision="fp16", cuda_graphs=True)
VARIATIONS: Final = (
    Engine("one session for all sizes", has_one_session=True),
    FP16,
    Engine("TF32", {"use_tf32": "1"}),
    Engine("EXHAUSTIVE", {"cudnn_conv_algo_search": "EXHAUSTIVE"}),
    FP16_GRAPHS,
    Engine("fp16, use_tf32 off", {"use_tf32": "0"}, precision="fp16"),
    Engine("fp16, use_tf32 on", {"use_tf32": "1"}, precision="fp16"),
    Engine("NHWC", {"prefer_nhwc": "1"}),
    Engine("EXHAUSTIVE, one session for all sizes", {"cudnn_conv_algo_search": "EXHAUSTIVE"}, has_one_session=True),
)
# The flags of the server, and the engine that computes the same in this process.
SERVERS: Final[tuple[tuple[tuple[str, ...], Engine], ...]] = (
    ((), DEFAULT),
    (("--cuda-graphs",), GRAPHS),
    (("--precision", "fp16"), FP16),
    (("--precision", "fp16", "--cuda-graphs"), FP16_GRAPHS),
)
LOADS: Final = (Load(1, 1), Load(1, 32), Load(64, 1), Load(64, 2, _CLIENTS), Load(64, 2, _CLIENTS, "float32"))


class OneSessionEngine(CudaOnnxEngine):
    """Computes all sizes in one session, which has to make its plans for cuDNN again whenever the size changes."""

    _shared: Any = None

    def _session(self, size: int, symbol: str | None, switch: str, provider: dict[str, str]) -> Any:
        if self._shared is None:
            self._shared = super()._session(size, None, switch, provider)
        return self._shared


def run(settings: Settings, record: Record) -> None:
    """Makes the measurements of this stage."""
    models = ("gan28",) if settings.is_dry else ("dcgan64", "gan28")
    variations = (VARIATIONS[0], FP16_GRAPHS) if settings.is_dry else VARIATIONS
    servers = SERVERS[1:2] if settings.is_dry else SERVERS
    record.measure("export", partial(export_models, settings, models))

    def measure_engine(model: str, engine: Engine) -> None:
        needs_s = settings.choose(8, 0)
        record.measure(engine.measurement(model), partial(in_process, settings, model, engine), needs_s=needs_s)

    def measure_server(model: str, flags: Sequence[str], engine: Engine) -> None:
        limit = record.value(engine.measurement(model), "images_per_s") or {}
        measurement = partial(served, settings, model, flags, limit.get("64"))
        record.measure(_served(model, flags), measurement, needs_s=settings.choose(22, 0))

    for model in models:
        measure_engine(model, DEFAULT)
        measure_engine(model, GRAPHS)
        for flags, engine in servers[:2]:
            measure_server(model, flags, engine)
        if model == models[0]:
            for engine in variations:
                measure_engine(model, engine)
    for flags, engine in servers[2:]:
        measure_server(models[0], flags, engine)
    for engine in variations:
        measure_engine(models[-1], engine)
    record.measure("the goal", partial(goal, record, models[0]))


def export_models(settings: Settings, models: Sequence[str]) -> dict[str, Any]:
    """Publishes untrained models, as only time matters."""
    graphs = make_graphs(settings.work / "graphs", models, variants=("fp16",))
    left_out = {graph.name: list(graph.left_out) for graph in graphs}
    return {"left_out": left_out, "summary": ", ".join(models)}


def in_process(settings: Settings, model: str, engine: Engine) -> dict[str, Any]:
    """Loads the engine here, compares its pixels with the CPU's, and times batches of several sizes."""
    folder, card = _bundle(settings, model)
    try:
        graph = read_graph(folder, card, "onnx", engine.precision)
    except BundleError as error:
        raise Skip(str(error)) from error
    rows = (1, 8) if settings.is_dry else ROWS
    sizes = (1, *_ALTERNATING) if settings.is_dry else _SIZES
    kind = OneSessionEngine if engine.has_one_session else CudaOnnxEngine
    with _cuda(settings), _provider(engine.provider):
        began_s = time.perf_counter()
        loaded = kind(graph, card, batch_rows=sizes, precision=engine.precision, cuda_graphs=engine.cuda_graphs)
        load_s = time.perf_counter() - began_s
        try:
            if loaded.cuda_graphs != engine.cuda_graphs:
                raise RuntimeError("the graph cannot be captured; the log says why")
            difference = _difference(loaded, folder, card)
            seconds = settings.choose(0.5, 0.01)
            times_s = {count: _times_s(loaded, card, (count,), seconds) for count in rows}
            one, other = _ALTERNATING
            alone_s = [statistics.median(_times_s(loaded, card, (count,), seconds)) for count in (one, other)]
            mixed_s = statistics.fmean(_times_s(loaded, card, (one, other), seconds))
        finally:
            loaded.close()
    ms = {str(count): 1e3 * statistics.median(times) for count, times in times_s.items()}
    p99_ms = {str(count): 1e3 * float(np.percentile(times, 99)) for count, times in times_s.items()}
    alternating = mixed_s / statistics.fmean(alone_s)
    shown = ", ".join(f"{count}: {time_ms:.3f} ms" for count, time_ms in ms.items())
    return {
        "load_s": load_s,
        "ms": ms,
        "p99_ms": p99_ms,
        "images_per_s": {count: 1e3 * int(count) / time_ms for count, time_ms in ms.items()},
        "alternating": alternating,
        "pixel_difference": difference,
        "summary": f"{shown}; {one}/{other} alternating takes {alternating:.2f}x; loads in {load_s:.1f} s",
    }


def served(settings: Settings, model: str, flags: Sequence[str], limit: float | None) -> dict[str, Any]:
    """Starts the server, and measures it with `ganclient bench`; `limit` is the speed of the engine at 64 rows."""
    repository = settings.work / "graphs" / model / "models"
    _bundle(settings, model)
    module = "benchmarks.gpu.stand_in" if settings.is_dry else "server"
    began_s = time.perf_counter()
    loads = (Load(1, 2), Load(8, 1, 2)) if settings.is_dry else LOADS
    results: dict[str, Any] = {}
    with server_process(repository, ("--device", "cuda", *flags), module) as (_, address):
        start_s = time.perf_counter() - began_s
        for load in loads:
            results[str(load)] = _bench(settings, address, model, load)
    shown = "; ".join(
        f"{load}: {result['images_per_s']:,.0f} images/s, p50 {result['p50_ms']:.2f} p99 {result['p99_ms']:.2f} ms"
        for load, result in results.items()
    )
    best = max(result["images_per_s"] for load, result in results.items() if load.startswith("64x") or settings.is_dry)
    share = None if limit is None else best / limit
    of_limit = "" if share is None else f"{share:.2f} of the engine at 64 rows; "
    return {"start_s": start_s, "loads": results, "share": share, "summary": of_limit + shown}


def goal(record: Record, model: str) -> dict[str, Any]:
    """The best server of a model against the goals."""
    found = {flags: _served(model, flags) for flags, _ in SERVERS}
    shares = [share for name in found.values() if (share := record.value(name, "share")) is not None]
    loads = [value["1x1"] for name in found.values() if (value := record.value(name, "loads")) and "1x1" in value]
    if not shares or not loads:
        raise Skip("needs the engine and the server at 64 rows and at 1 row")
    share, p50_ms = max(shares), min(load["p50_ms"] for load in loads)
    summary = f"{model}: {share:.2f} of the engine at 64 rows (goal {_GOAL_SHARE}), p50 {p50_ms:.2f} ms at 1 row"
    reached = share >= _GOAL_SHARE and p50_ms < _GOAL_MS
    return {"share": share, "p50_ms": p50_ms, "is_reached": reached, "summary": f"{summary} (goal {_GOAL_MS:g})"}


def _served(model: str, flags: Sequence[str]) -> str:
    return f"server {model}: {' '.join(flags) or 'default'}"


def _bundle(settings: Settings, model: str) -> tuple[Path, Card]:
    folder = settings.work / "graphs" / model / "models" / model / "1"
    if not folder.is_dir():
        raise Skip(f"{model} is not exported")
    return folder, read_card(folder)


def _cuda(settings: Settings) -> Any:
    return cuda_stand_in() if settings.is_dry else nullcontext()


@contextmanager
def _provider(changes: Mapping[str, str]) -> Iterator[None]:
    usual = onnx_cuda.provider_options
    with mock.patch.object(onnx_cuda, "provider_options", lambda *settings: usual(*settings) | dict(changes)):
        yield


def _difference(loaded: CudaOnnxEngine, folder: Path, card: Card) -> int:
    inputs = example_rows(card.input, 0, 8)
    expected = load_engine(folder, card, "onnx", "cpu").run(inputs, _PIXELS)[OUTPUT_PIXELS]
    actual = loaded.run(inputs, _PIXELS)[OUTPUT_PIXELS]
    return int(np.abs(actual.astype(int) - expected).max())


def _times_s(loaded: CudaOnnxEngine, card: Card, rows: Sequence[int], seconds: float) -> list[float]:
    """Times of batches of these sizes in turn, for about this long, after a warm-up."""
    batches = [example_rows(card.input, 0, count) for count in rows]
    for batch in batches * _WARM_UPS:
        loaded.run(batch, _PIXELS)
    times_s: list[float] = []
    ends_s = time.perf_counter() + seconds
    while time.perf_counter() < ends_s:
        for batch in batches:
            began_s = time.perf_counter()
            loaded.run(batch, _PIXELS)
            times_s.append(time.perf_counter() - began_s)
    return times_s


def _bench(settings: Settings, address: str, model: str, load: Load) -> dict[str, Any]:
    """One load, from several processes at once if the load has several clients; latencies are the worst of theirs."""
    command = [sys.executable, "-m", "client", "bench", "--address", address, "--model", model, "--json", "-"]
    command += ["--rows", str(load.rows), "--concurrency", str(load.concurrency), "--format", load.image_format]
    command += ["--seconds", str(settings.choose(2.0, 0.1)), "--warmup-s", str(settings.choose(1.0, 0.0))]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(load.clients)]
    answers = [client.communicate()[0] for client in clients]
    failed = [client.returncode for client in clients if client.returncode]
    if failed:
        raise RuntimeError(f"ganclient bench ended with exit code {failed[0]}; the log says why")
    measured = [json.loads(answer)["measurements"][0] for answer in answers]
    errors = [result["errors"] for result in measured if result["errors"]]
    if errors:
        raise RuntimeError(f"requests failed: {errors[0]}")
    return {
        "images_per_s": sum(result["images_per_s"] for result in measured),
        **{name: max(result[name] for result in measured) for name in ("p50_ms", "p90_ms", "p99_ms")},
        "client_cores": sum(result["client_cores"] for result in measured),
    }
