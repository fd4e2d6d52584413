"""Loads the engines of a version, warms them up and measures which instance group suits which batches. Slow.

server/scheduling/instances.py explains the instance groups.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from ganserve.bundle import OUTPUT_PIXELS, BundleError, Card, example_rows, fitting_batch_rows
from ganserve.foreign import first_line
from ganserve.machine import usable_cores
from server.config import Backend, Device, Precision, ServerConfig
from server.daemon_threads import TooSlow, run_within
from server.engines.base import Engine, GraphFile, cuda_devices, read_graph, warm_up
from server.engines.layouts import Layout, automatic_layout, batch_sizes, rows_within
from server.engines.onnx_cuda import CudaOnnxEngine, cuda_device_indices
from server.errors import StartupError
from server.scheduling.instances import GroupLimits, Instance, InstanceGroups, LoadedInstances, close_instances

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
HAND_OFF_S: Final = 0.0002  # upper bound of the time to hand a batch to a thread and get it back
MIN_SHARE_S: Final = 0.0005  # a smaller piece of work is not worth its own thread
MIN_GAIN: Final = 1.1  # smallest speed-up for which a wide or bfloat16 instance is used
_QUICK_S: Final = 0.003  # a lone request may block the event loop for this long
_TRIES: Final = 3
_PIXELS: Final = frozenset({OUTPUT_PIXELS})


@contextmanager
def failures_as_bundle_errors() -> Iterator[None]:
    """Turns any error of a runtime that loads a version, such as out of memory, into a `BundleError`."""
    try:
        yield
    except (BundleError, StartupError, OSError):
        raise
    except Exception as error:
        raise BundleError(
            f"loading failed ({first_line(error)}); free some memory, or export the model again"
        ) from error


def within_load_timeout(
    config: ServerConfig, folder: Path, work: Callable[[], _T], discard: Callable[[_T], object] = lambda _: None
) -> _T:
    """Does a part of loading a version on its own thread, which is abandoned after the load timeout.

    Args:
        config: has the time.
        folder: of the version.
        work: what to do.
        discard: frees a result that comes too late.

    Raises:
        BundleError: it has not ended in time.
        Exception: the work failed.
    """
    try:
        return run_within(config.load_timeout_s, work, f"load {folder.parent.name}:{folder.name}", discard)
    except TooSlow as error:
        raise BundleError(
            f"{folder}: loading has not ended after {config.load_timeout_s:g} s; check its disk and its graph, or raise"
            " --load-timeout-s"
        ) from error


@failures_as_bundle_errors()
def load_instances(folder: Path, card: Card, config: ServerConfig) -> LoadedInstances:
    """Loads and warms up the instances of a version, except those of `load_bf16_instances`.

    Raises:
        BundleError: the version is broken, or takes longer than the load timeout.
        StartupError: the device or the backend is not available on this machine.
    """
    return within_load_timeout(
        config, folder, partial(_load_instances, folder, card, config), lambda late: late.groups.close()
    )


def _load_instances(folder: Path, card: Card, config: ServerConfig) -> LoadedInstances:
    if config.backend == "torchscript":
        return _load_torchscript_instances(folder, card, config)
    if (loaded := load_cuda_instances(folder, card, config)) is not None:
        return loaded
    if config.precision == "fp16":
        raise StartupError("--precision fp16: needs CUDA; on a CPU, use fp32 or bf16")
    return _load_cpu_instances(folder, card, config)


def _load_torchscript_instances(folder: Path, card: Card, config: ServerConfig) -> LoadedInstances:
    engine = load_engine(folder, card, "torchscript", config.device, precision=config.precision, threads=config.cores)
    max_rows = batch_rows(card, config)
    warm_up(engine, card, max_rows)
    cores = engine.threads if engine.device == "cpu" else 1  # a CUDA device counts as one
    groups = InstanceGroups([_make_instance(engine, card, engine.device, cores, max_rows)])
    return LoadedInstances(groups, engine.backend, engine.device, engine.precision)


def _load_cpu_instances(folder: Path, card: Card, config: ServerConfig) -> LoadedInstances:
    cores, max_rows = config.usable_cores, batch_rows(card, config)
    layout = automatic_layout(cores, config.engines)
    limit_s = config.compute_timeout_s
    engines = _load_engines(folder, card, layout, warm_rows=max_rows, run_limit_s=limit_s)
    narrow = [_make_instance(engine, card, "narrow", layout.threads, max_rows) for engine in engines]
    wide = None
    if layout.engines > 1:
        on_all_cores = Layout("onnx", "fp32", 1, cores)
        (wide,) = load_group(folder, card, on_all_cores, "wide", max_rows, warm_rows=1, run_limit_s=limit_s)
    limits = measure_limits(narrow[0], wide, card, layout.engines)
    if engines[0].has_loop:  # however fast it was, another input may take forever
        limits = replace(limits, inline_rows=0)
    else:
        quick_rows = _quick_rows(narrow[0], card)
        for instance in narrow:
            instance.quick_rows = quick_rows
        if wide is not None:
            wide.quick_rows = _quick_rows(wide, card)
    return LoadedInstances(InstanceGroups(narrow, wide=wide, limits=limits), "onnx", "cpu", "fp32")


def load_group(
    folder: Path,
    card: Card,
    layout: Layout,
    group: str,
    max_rows: int,
    *,
    warm_rows: int,
    run_limit_s: float = ServerConfig.compute_timeout_s,
) -> list[Instance]:
    """Loads the engines of a layout on the CPU, and runs batches of 1 and of `warm_rows` rows through the first.

    Raises:
        BundleError: the version is broken or was not exported in this precision.
        StartupError: the backend is not installed.
    """
    engines = _load_engines(folder, card, layout, warm_rows=warm_rows, run_limit_s=run_limit_s)
    return [_make_instance(engine, card, group, layout.threads, max_rows) for engine in engines]


def _load_engines(folder: Path, card: Card, layout: Layout, *, warm_rows: int, run_limit_s: float) -> list[Engine]:
    def load() -> Engine:
        return load_engine(
            *(folder, card, layout.backend, "cpu"),
            precision=layout.precision,
            threads=layout.threads,
            run_limit_s=run_limit_s,
        )

    first = load()
    warm_up(first, card, warm_rows)
    # A single-threaded session computes in the threads that call it, so all instances share it.
    return [first, *(first if layout.threads == 1 else load() for _ in range(layout.engines - 1))]


def batch_rows(card: Card, config: ServerConfig) -> int:
    """The most rows per batch of a model: as configured, or fewer if the images are large."""
    return min(config.max_batch_size, fitting_batch_rows(card.input, card.height, card.width))


def measure_limits(narrow: Instance, wide: Instance | None, card: Card, instances: int) -> GroupLimits:
    """Measures, with a few runs of warm instances, which batches each instance group should compute."""
    one_s = _seconds(narrow, card, 1)
    times = {1: one_s}
    if narrow.max_rows > 1:
        times[narrow.max_rows] = _seconds(narrow, card, narrow.max_rows, tries=1)
    wide_rows = 0
    if wide is not None and (gain := one_s / _seconds(wide, card, 1)) > MIN_GAIN:
        # The wide instance computes rows in sequence, the narrow ones in parallel.
        wide_rows = min(instances - 1, math.floor(gain))
    return GroupLimits(
        inline_rows=rows_within(times, HAND_OFF_S),
        min_share_rows=rows_within(times, MIN_SHARE_S) + 1,
        wide_rows=wide_rows,
    )


def _quick_rows(instance: Instance, card: Card) -> int:
    return 1 if _seconds(instance, card, 1) <= _QUICK_S else 0


def _seconds(instance: Instance, card: Card, rows: int, tries: int = _TRIES) -> float:
    """The fastest of several runs that compute pixels, which most clients request."""
    inputs = example_rows(card.input, 0, rows)
    taken = []
    for _ in range(tries):
        began = time.perf_counter()
        instance.run(inputs, _PIXELS)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _make_instance(engine: Engine, card: Card, group: str, cores: int, max_rows: int) -> Instance:
    known_good = example_rows(card.input, 0, 1)

    def probe() -> Any:
        return engine.run(known_good, _PIXELS)

    return Instance(group, engine.run, cores=cores, max_rows=max_rows, probe=probe)


@failures_as_bundle_errors()
def load_cuda_instances(folder: Path, card: Card, config: ServerConfig) -> LoadedInstances | None:
    """Loads and warms up one engine per CUDA device; returns None to use the CPU, with a warning if CUDA fails.

    Raises:
        BundleError: the version is broken, or a device has too little memory for it.
        StartupError: `--device cuda` was given, and CUDA is not available or does not support this precision.
    """
    if config.device == "cpu" or (config.device == "auto" and not cuda_devices()):
        return None
    try:
        return _load_cuda_instances(folder, card, config)
    except StartupError as error:
        if config.device == "cuda":
            raise
        _log.warning("there is a CUDA device, but the CPU is used: %s", error)
        return None


def _load_cuda_instances(folder: Path, card: Card, config: ServerConfig) -> LoadedInstances:
    indices = cuda_device_indices(cuda_devices(), config.cuda_devices)
    if config.precision == "bf16":
        raise StartupError("--precision bf16: needs a CPU; on CUDA, use fp32 or fp16")
    graph, precision = _read_cuda_graph(folder, card, config.precision)
    sizes = batch_sizes(batch_rows(card, config))
    instances: list[Instance] = []
    try:
        for index in indices:
            engine = CudaOnnxEngine(
                graph,
                card,
                device_index=index,
                batch_rows=sizes,
                precision=precision,
                cuda_graphs=config.cuda_graphs,
                run_limit_s=config.compute_timeout_s,
            )
            instance = _make_instance(engine, card, engine.device, 1, engine.sizes[-1])
            instance.padded_rows, instance.close = engine.padded_rows, engine.close
            instances.append(instance)
            warm_up(engine, card, engine.sizes[-1])
        limits = GroupLimits()
        if len(instances) > 1:  # a batch that takes hardly longer than one row is not worth several devices
            measured = measure_limits(instances[0], None, card, len(instances))
            limits = replace(limits, min_share_rows=measured.min_share_rows)  # never inline: the engine has a thread
    except BaseException:
        close_instances(instances)
        raise
    devices = "cuda:" + ",".join(map(str, indices))
    return LoadedInstances(InstanceGroups(instances, limits=limits), "onnx", devices, precision)


def _read_cuda_graph(folder: Path, card: Card, precision: Precision) -> tuple[GraphFile, Precision]:
    if precision == "fp16":
        try:
            return read_graph(folder, card, "onnx", "fp16"), "fp16"
        except BundleError as error:
            _log.warning("%s:%d is served in fp32: %s", card.name, card.version, error)
    return read_graph(folder, card, "onnx", "fp32"), "fp32"


def load_engine(
    folder: Path,
    card: Card,
    backend: Backend,
    device: Device,
    *,
    precision: Precision = "fp32",
    threads: int | None = None,
    run_limit_s: float = ServerConfig.compute_timeout_s,
) -> Engine:
    """Reads and checks the graph of a version and loads it: ONNX Runtime on the CPU, or TorchScript on any device.

    Args:
        folder: the folder of the version.
        card: its card.
        backend: the runtime.
        device: for TorchScript, where "auto" uses CUDA if available; ONNX Runtime's CUDA engine is in onnx_cuda.py.
        precision: of the computation; bf16 and fp16 must have been exported.
        threads: per call on the CPU; None uses all usable cores.
        run_limit_s: the longest time of a run of ONNX Runtime, in seconds; PyTorch cannot end a run.

    Raises:
        BundleError: the version is broken or was not exported in this precision.
        StartupError: the device or the backend is not available on this machine, or the backend does not support
            this precision.
    """
    graph = read_graph(folder, card, backend, precision)
    threads = threads or usable_cores()
    if backend == "onnx":
        from server.engines.onnx_cpu import OnnxEngine

        return OnnxEngine(graph, card, threads, run_limit_s=run_limit_s, precision=precision)
    from server.engines.torchscript import TorchScriptEngine

    return TorchScriptEngine(graph, device, threads, precision=precision)
