"""Loads the engines of one version, warms them up, and measures which of them should compute what. Slow; no queue.

See lanes.py for what the seats are for.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any, Final

from exporter.bundle import OUTPUT_PIXELS, Card, example_rows, fitting_batch_rows
from server.config import ServerConfig
from server.engine import Engine, cuda_devices, load_engine, usable_cores, warm_up
from server.errors import StartupError
from server.lanes import LaneLimits, Lanes, LoadedLanes, Seat

_log = logging.getLogger(__name__)
_MAX_NARROW_SEATS: Final = 8  # on more cores each gets more threads, so that batches stay few and large
_HAND_OFF_S: Final = 0.0002  # what it takes to give a batch to a thread and get it back, and then some
_MIN_SHARE_S: Final = 0.0005  # less work is not worth a thread of its own
_MIN_GAIN: Final = 1.1  # that a wide seat must bring
_TRIES: Final = 3
_DEFAULT_LARGE_ROWS: Final = 5  # onnxruntime is faster below
_PIXELS: Final = frozenset({OUTPUT_PIXELS})


def load_lanes(folder: Path, card: Card, config: ServerConfig) -> LoadedLanes:
    """Loads and warms what serves a version at once; see `load_large_seat` for what may join later.

    Raises:
        BundleError: the version is broken.
        StartupError: the device or the backend cannot be had on this machine.
    """
    if config.backend == "torchscript":
        return _torchscript_lanes(folder, card, config)
    if config.device != "cpu" and cuda_devices():
        from server.cuda_lanes import load_cuda_lanes

        try:
            return load_cuda_lanes(folder, card, config, batch_rows(card, config))
        except StartupError as error:
            if config.device == "cuda":
                raise
            _log.warning("there is a CUDA device, but the CPU does the work: %s", error)
    elif config.device == "cuda":
        raise StartupError("--device cuda: the NVIDIA driver shows no device; install a driver, or use --device cpu")
    if config.precision == "fp16":
        raise StartupError("--precision fp16: it is for CUDA; on a CPU, use fp32 or bf16")
    return _cpu_lanes(folder, card, config)


def _torchscript_lanes(folder: Path, card: Card, config: ServerConfig) -> LoadedLanes:
    engine = load_engine(folder, card, "torchscript", config.device, precision=config.precision)
    max_rows = batch_rows(card, config)
    warm_up(engine, card, max_rows)
    return _describe(Lanes([make_seat(engine, card, engine.device, engine.threads, max_rows)]), engine)


def _cpu_lanes(folder: Path, card: Card, config: ServerConfig) -> LoadedLanes:
    max_rows = batch_rows(card, config)
    cores = usable_cores()
    seats = config.engines or min(cores, _MAX_NARROW_SEATS)
    threads = max(1, cores // seats)

    def load(threads: int) -> Engine:
        return load_engine(folder, card, "onnx", "cpu", threads=threads)

    first = load(threads)
    warm_up(first, card, max_rows)
    # A session of one thread computes in the threads that call it, so it serves all seats.
    others = [first if threads == 1 else load(threads) for _ in range(seats - 1)]
    narrow = [make_seat(engine, card, "narrow", threads, max_rows) for engine in (first, *others)]
    wide = None
    if seats > 1:
        wide_engine = load(cores)
        warm_up(wide_engine, card, 1)
        wide = make_seat(wide_engine, card, "wide", cores, max_rows)
    return _describe(Lanes(narrow, wide=wide, limits=measure_limits(narrow[0], wide, card, seats)), first)


def load_large_seat(folder: Path, card: Card, config: ServerConfig) -> Seat:
    """Loads the engine of reduced precision for large batches; takes seconds.

    Raises:
        BundleError: the version has none.
        StartupError: PyTorch is not installed.
    """
    engine = load_engine(folder, card, "torchscript", "cpu", precision="bf16", threads=usable_cores())
    max_rows = batch_rows(card, config)
    warm_up(engine, card, max_rows)
    return make_seat(engine, card, "bf16", usable_cores(), max_rows)


def batch_rows(card: Card, config: ServerConfig) -> int:
    """The most rows of a model that are computed at once: as configured, or fewer of large images."""
    return min(config.max_batch_size, fitting_batch_rows(card.input, card.height, card.width))


def measure_limits(narrow: Seat, wide: Seat | None, card: Card, seats: int) -> LaneLimits:
    """Who should compute what, from a few runs of each warm seat."""
    one_s, full_s = _seconds(narrow, card, 1), _seconds(narrow, card, narrow.max_rows, tries=1)
    row_s = max((full_s - one_s) / max(1, narrow.max_rows - 1), 1e-9)

    def rows_within(seconds: float) -> int:
        return 0 if seconds < one_s else min(narrow.max_rows, 1 + math.floor((seconds - one_s) / row_s))

    wide_rows = 0
    if wide is not None and (gain := one_s / _seconds(wide, card, 1)) > _MIN_GAIN:
        # The wide seat takes rows one after the other, the narrow ones side by side.
        wide_rows = min(seats - 1, math.floor(gain))
    return LaneLimits(
        inline_rows=rows_within(_HAND_OFF_S),
        min_share_rows=rows_within(_MIN_SHARE_S) + 1,
        wide_rows=wide_rows,
        large_rows=_DEFAULT_LARGE_ROWS,
    )


def _seconds(seat: Seat, card: Card, rows: int, tries: int = _TRIES) -> float:
    """The quickest of some runs, for pixels: what most callers ask for."""
    inputs = example_rows(card.input, 0, rows)
    taken = []
    for _ in range(tries):
        began = time.perf_counter()
        seat.run(inputs, _PIXELS)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _describe(lanes: Lanes, engine: Engine) -> LoadedLanes:
    return LoadedLanes(lanes, engine.backend, engine.device, engine.precision)


def make_seat(engine: Engine, card: Card, lane: str, cores: int, max_rows: int) -> Seat:
    """One seat on an engine, whose probe runs a row that is known to be good."""
    known_good = example_rows(card.input, 0, 1)

    def probe() -> Any:
        return engine.run(known_good, _PIXELS)

    return Seat(lane, engine.run, cores=cores, max_rows=max_rows, probe=probe)
