"""Loads the engines of one version, warms them up, and measures which of them should compute what. Slow; no queue.

What a profile says of a version (profile.py) goes before what is measured here. See instances.py for what the instances
are for.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ganserve.bundle import (
    ONNX_FILE,
    OUTPUT_PIXELS,
    BundleError,
    Card,
    example_rows,
    fitting_batch_rows,
)
from ganserve.foreign import first_line
from server.config import Backend, Device, Precision, ServerConfig
from server.engines.base import Engine, cuda_devices, graph_file, usable_cores, warm_up
from server.engines.layouts import (
    HAND_OFF_S,
    MIN_GAIN,
    MIN_SHARE_S,
    automatic_layout,
    batch_sizes,
    bf16_layout,
    rows_within,
)
from server.engines.onnx_cuda import CudaOnnxEngine, cuda_device_indices
from server.engines.profile import Layout, TunedModel, processor_name, usable_profile
from server.errors import StartupError
from server.scheduling.instances import GroupLimits, Instance, InstanceGroups, LoadedInstances, close_instances

_log = logging.getLogger(__name__)
_TRIES: Final = 3
_QUICK_S: Final = 0.003  # so long the event loop may compute for a lone caller, who then waits for no thread
_DEFAULT_LARGE_ROWS: Final = 4  # onnxruntime is faster below
_PIXELS: Final = frozenset({OUTPUT_PIXELS})


@contextmanager
def unforeseen_is_broken() -> Iterator[None]:
    """Makes whatever a runtime raises while a version is loaded (out of memory, above all) a `BundleError`."""
    try:
        yield
    except (BundleError, StartupError, OSError):
        raise
    except Exception as error:
        raise BundleError(
            f"loading it failed ({first_line(error)}); see that there is memory for it, or export the model again"
        ) from error


@unforeseen_is_broken()
def load_instances(folder: Path, card: Card, config: ServerConfig) -> LoadedInstances:
    """Loads and warms what serves a version at once; see `load_large_instances` for what may join later.

    Raises:
        BundleError: the version is broken.
        StartupError: the device or the backend cannot be had on this machine.
    """
    if config.backend == "torchscript":
        if config.profile is not None:
            raise StartupError("--profile: is about --backend onnx; leave one of the two flags out")
        return _torchscript_instances(folder, card, config)
    if config.device != "cpu" and cuda_devices():
        from server.engines.loading import load_cuda_instances

        try:
            return load_cuda_instances(
                folder, card, config, _fp32_rows(card, config, tuned_model(card, config, "cuda"))
            )
        except StartupError as error:
            if config.device == "cuda":
                raise
            _log.warning("there is a CUDA device, but the CPU does the work: %s", error)
    elif config.device == "cuda":
        raise StartupError("--device cuda: the NVIDIA driver shows no device; install a driver, or use --device cpu")
    if config.precision == "fp16":
        raise StartupError("--precision fp16: it is for CUDA; on a CPU, use fp32 or bf16")
    return _cpu_instances(folder, card, config)


def _torchscript_instances(folder: Path, card: Card, config: ServerConfig) -> LoadedInstances:
    engine = load_engine(folder, card, "torchscript", config.device, precision=config.precision)
    max_rows = batch_rows(card, config)
    warm_up(engine, card, max_rows)
    cores = engine.threads if engine.device == "cpu" else 1  # of another device, its time is counted
    groups = InstanceGroups([make_instance(engine, card, engine.device, cores, max_rows)])
    return LoadedInstances(groups, engine.backend, engine.device, engine.precision)


def _cpu_instances(folder: Path, card: Card, config: ServerConfig) -> LoadedInstances:
    cores = usable_cores()
    tuned = tuned_model(card, config, "cpu")
    max_rows = _fp32_rows(card, config, tuned)
    layout = _narrow_layout(config, tuned)
    limits = None if tuned is None else _group_limits(tuned)
    narrow = load_group(folder, card, layout, "narrow", max_rows, warm_rows=max_rows)
    wide = None
    if layout.engines > 1 and (limits is None or limits.wide_rows):
        (wide,) = load_group(folder, card, Layout("onnx", "fp32", 1, cores), "wide", max_rows, warm_rows=1)
    limits = limits or measure_limits(narrow[0], wide, card, layout.engines)
    quick_rows = 1 if _seconds(narrow[0], card, 1) <= _QUICK_S else 0
    for instance in narrow:
        instance.quick_rows = quick_rows
    if wide is not None:
        wide.quick_rows = 1 if _seconds(wide, card, 1) <= _QUICK_S else 0
    return LoadedInstances(InstanceGroups(narrow, wide=wide, limits=limits), "onnx", "cpu", "fp32")


@unforeseen_is_broken()
def load_large_instances(folder: Path, card: Card, config: ServerConfig) -> list[Instance]:
    """Loads what computes large batches in reduced precision, as many instances as `load_instances` has; takes seconds.

    Raises:
        BundleError: the version has none.
        StartupError: PyTorch is not installed, or the profile says that it would not pay.
    """
    max_rows = batch_rows(card, config)
    if (tuned := tuned_model(card, config, "cpu")) is not None:
        if tuned.limits.large_batch_rows is None:
            raise StartupError(f"--profile: {config.profile} says that bf16 is no faster here")
        max_rows = min(max_rows, tuned.limits.large_batch_rows)
    layout = bf16_layout(_narrow_layout(config, tuned))
    return load_group(folder, card, layout, "bf16", max_rows, warm_rows=max_rows)


def _narrow_layout(config: ServerConfig, tuned: TunedModel | None) -> Layout:
    if tuned is None:
        return automatic_layout(usable_cores(), config.engines)
    return Layout("onnx", "fp32", tuned.engines, tuned.threads)


def load_group(
    folder: Path, card: Card, layout: Layout, group: str, max_rows: int, *, warm_rows: int
) -> list[Instance]:
    """Loads the engines of a layout on the CPU, and runs up to so many rows through the first.

    Raises:
        BundleError: the version is broken, or was not exported in this precision.
        StartupError: the backend is not installed.
    """

    def load() -> Engine:
        return load_engine(folder, card, layout.backend, "cpu", precision=layout.precision, threads=layout.threads)

    first = load()
    warm_up(first, card, warm_rows)
    # A session of one thread computes in the threads that call it, so it serves all instances.
    others = [first if layout.threads == 1 else load() for _ in range(layout.engines - 1)]
    return [make_instance(engine, card, group, layout.threads, max_rows) for engine in (first, *others)]


def batch_rows(card: Card, config: ServerConfig) -> int:
    """The most rows of a model that are computed at once: as configured, or fewer of large images."""
    return min(config.max_batch_size, fitting_batch_rows(card.input, card.height, card.width))


def measure_limits(narrow: Instance, wide: Instance | None, card: Card, instances: int) -> GroupLimits:
    """Who should compute what, from a few runs of each warm instance."""
    one_s = _seconds(narrow, card, 1)
    times = {1: one_s}
    if narrow.max_rows > 1:
        times[narrow.max_rows] = _seconds(narrow, card, narrow.max_rows, tries=1)
    wide_rows = 0
    if wide is not None and (gain := one_s / _seconds(wide, card, 1)) > MIN_GAIN:
        # The wide instance takes rows one after the other, the narrow ones side by side.
        wide_rows = min(instances - 1, math.floor(gain))
    return GroupLimits(
        inline_rows=rows_within(times, HAND_OFF_S),
        min_share_rows=rows_within(times, MIN_SHARE_S) + 1,
        wide_rows=wide_rows,
        large_rows=_DEFAULT_LARGE_ROWS,
    )


def tuned_model(card: Card, config: ServerConfig, device: str) -> TunedModel | None:
    """What the profile says of a version on a kind of device; None, and a line in the log, if that is nothing.

    Raises:
        StartupError: the profile cannot be read, or is none.
    """
    profile = None if config.profile is None else usable_profile(config.profile, usable_cores(), processor_name())
    if profile is None:
        return None
    tuned = profile.models.get(card.name)
    if tuned is None or tuned.sha256 != card.files.get(ONNX_FILE):
        reason = "this graph was not measured"
    elif tuned.device.partition(":")[0] != device:
        reason = f"it was measured on {tuned.device}"
    elif config.engines not in (None, tuned.engines):
        reason = f"it says {tuned.engines} engines, and --engines {config.engines} goes before it"
    else:
        return tuned
    _log.info(
        "%s:%d: --profile %s is not used for it (%s): the choice is automatic",
        *(card.name, card.version, config.profile, reason),
    )
    return None


def _fp32_rows(card: Card, config: ServerConfig, tuned: TunedModel | None) -> int:
    most = batch_rows(card, config)
    return most if tuned is None else min(most, tuned.limits.max_batch_rows)


def _group_limits(tuned: TunedModel) -> GroupLimits:
    limits = tuned.limits
    return GroupLimits(
        inline_rows=limits.inline_rows,
        min_share_rows=limits.min_share_rows,
        wide_rows=limits.wide_rows,
        large_rows=sys.maxsize if limits.large_rows is None else limits.large_rows,
    )


def _seconds(instance: Instance, card: Card, rows: int, tries: int = _TRIES) -> float:
    """The quickest of some runs, for pixels: what most callers ask for."""
    inputs = example_rows(card.input, 0, rows)
    taken = []
    for _ in range(tries):
        began = time.perf_counter()
        instance.run(inputs, _PIXELS)
        taken.append(time.perf_counter() - began)
    return min(taken)


def make_instance(engine: Engine, card: Card, group: str, cores: int, max_rows: int) -> Instance:
    """One instance on an engine, whose probe runs a row that is known to be good."""
    known_good = example_rows(card.input, 0, 1)

    def probe() -> Any:
        return engine.run(known_good, _PIXELS)

    return Instance(group, engine.run, cores=cores, max_rows=max_rows, probe=probe)


@unforeseen_is_broken()
def load_cuda_instances(folder: Path, card: Card, config: ServerConfig, max_rows: int) -> LoadedInstances:
    """Loads and warms an engine on each device.

    Raises:
        BundleError: the version is broken, or CUDA has no memory left for it.
        StartupError: CUDA cannot be used, or not in this precision.
    """
    if config.precision == "bf16":
        raise StartupError("--precision bf16: it is for CPUs; on CUDA, use fp32 or fp16")
    indices = cuda_device_indices(cuda_devices(), config.cuda_devices)
    precision: Precision = "fp32"
    if config.precision == "fp16":
        try:
            graph_file(folder, card, "onnx", "fp16")
            precision = "fp16"
        except BundleError as error:
            _log.warning("%s:%d is served in fp32: %s", card.name, card.version, error)
    path = graph_file(folder, card, "onnx", precision)
    instances: list[Instance] = []
    try:
        for index in indices:
            engine = CudaOnnxEngine(
                path,
                card,
                device_index=index,
                batch_rows=batch_sizes(max_rows),
                precision=precision,
                cuda_graphs=config.cuda_graphs,
            )
            instance = make_instance(engine, card, engine.device, 1, engine.sizes[-1])
            instance.padded_rows, instance.close = engine.padded_rows, engine.close
            instances.append(instance)
            warm_up(engine, card, engine.sizes[-1])
    except BaseException:
        close_instances(instances)
        raise
    devices = "cuda:" + ",".join(map(str, indices))
    return LoadedInstances(InstanceGroups(instances), "onnx", devices, precision)


def load_engine(
    folder: Path,
    card: Card,
    backend: Backend,
    device: Device,
    *,
    precision: Precision = "fp32",
    threads: int | None = None,
) -> Engine:
    """Loads one version of a model, after checking its files.

    Args:
        folder: of the version.
        card: of the version.
        backend: the runtime.
        device: of TorchScript, whose "auto" takes CUDA if it works; ONNX Runtime's engine here is that of the CPU, and
            loading.py loads those of CUDA.
        precision: of the computation; another than fp32 is in the bundle only if it was exported so.
        threads: that one call uses on the CPU; None is all usable cores.

    Raises:
        BundleError: the version is broken, or was not exported in this precision.
        StartupError: the device or the backend cannot be had on this machine, or the backend has no such precision.
    """
    path = graph_file(folder, card, backend, precision)
    threads = threads or usable_cores()
    if backend == "onnx":
        from server.engines.onnx_cpu import OnnxEngine

        return OnnxEngine(path, card, threads, precision=precision)
    from server.engines.torchscript import TorchScriptEngine

    return TorchScriptEngine(path, device, threads, precision=precision)
