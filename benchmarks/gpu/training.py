"""Images per second of training steps: the tutorial's loop, the trainer in several settings, and CUDA graphs."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, cast

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.graphed_step import graphed
from benchmarks.gpu.record import Record, Skip
from benchmarks.gpu.settings import Settings
from benchmarks.train_throughput import config_of, write_pictures
from benchmarks.training import images_per_second, training_at
from benchmarks.tutorial_loop import PictureFiles, TutorialLoop
from trainer.config import AnyConfig, GanConfig, override
from trainer.presets import PRESETS
from trainer.training.base import Training
from trainer.training.compiled import check_compiler
from trainer.training.gan import GanTraining

Fp32 = Literal["default", "exact", "tf32"]

TUTORIAL: Final = "tutorial's loop"
STEPS_BETWEEN_WAITS: Final = 50  # the trainer reads its measurements as often
_PICTURES: Final = 12_800  # 100 steps an epoch, at whose start the DataLoader starts its workers
_PROFILED_STEPS: Final = 10
_GOAL: Final = 3.0
_STRETCH: Final = 5.0


@dataclass(frozen=True)
class Cell:
    """The trainer with one preset and one group of settings."""

    preset: tuple[str, str]
    size: int  # of the images, in pixels
    setting: str
    changes: Mapping[str, Any] = field(default_factory=dict)  # of the config
    fp32: Fp32 = "default"  # what PyTorch does by default: convolutions in TF32, matrix products exact
    is_graph: bool = False
    is_searched: bool = False  # cudnn.benchmark: try the algorithms of each convolution

    @property
    def name(self) -> str:
        """In the table."""
        return f"{self.preset[1]} {self.size} px, {self.setting}"


_BF16: Final = {"precision": "bf16"}
_COMPILED: Final = {"precision": "bf16", "compile_networks": True}
_DCGAN, _WGAN_GP, _PGGAN = ("dcgan", "dcgan64-k4"), ("wgan-gp", "wgan-gp"), ("pggan", "pggan-paper")

CELLS: Final = (
    Cell(_DCGAN, 64, "bf16", _BF16),
    Cell(_DCGAN, 64, "bf16, CUDA graph", _BF16, is_graph=True),
    Cell(_DCGAN, 64, "fp32"),
    Cell(_DCGAN, 64, "fp32 in TF32", fp32="tf32"),
    Cell(_DCGAN, 64, "fp32 exact", fp32="exact"),
    Cell(_DCGAN, 64, "bf16, cudnn.benchmark", _BF16, is_searched=True),
    Cell(_DCGAN, 64, "bf16, cudnn.benchmark, CUDA graph", _BF16, is_graph=True, is_searched=True),
    Cell(_WGAN_GP, 64, "bf16", _BF16),
    Cell(_WGAN_GP, 64, "bf16, CUDA graph", _BF16, is_graph=True),
    Cell(_WGAN_GP, 64, "fp32"),
    Cell(_PGGAN, 64, "bf16", _BF16),
    Cell(_PGGAN, 64, "bf16, CUDA graph", _BF16, is_graph=True),
    Cell(_PGGAN, 64, "fp32"),
    Cell(_DCGAN, 64, "fp32, CUDA graph", is_graph=True),
    *(
        Cell(_PGGAN, size, setting, changes, is_graph=is_graph)
        for size in (32, 128)
        for setting, changes, is_graph in (
            ("bf16", _BF16, False),
            ("bf16, CUDA graph", _BF16, True),
            ("fp32", {}, False),
        )
    ),
    Cell(_WGAN_GP, 64, "fp32 in TF32", fp32="tf32"),
)
_COMPILED_CELLS: Final = (
    Cell(_DCGAN, 64, "bf16, compiled", _COMPILED),
    Cell(_WGAN_GP, 64, "bf16, compiled", _COMPILED),
)
_DRY_CELLS: Final = (CELLS[0], CELLS[1], CELLS[8], Cell(_PGGAN, 8, "bf16, CUDA graph", _BF16, is_graph=True))


def run(settings: Settings, record: Record) -> None:
    """Makes the measurements of this stage."""
    for name, is_resident, is_channels_last in (
        (TUTORIAL, False, False),
        (f"{TUTORIAL}, batch on the device", True, False),
        (f"{TUTORIAL}, batch on the device, channels_last", True, True),
    ):
        measure_tutorial = partial(tutorial, settings, is_resident=is_resident, is_channels_last=is_channels_last)
        record.measure(name, measure_tutorial, needs_s=settings.choose(10, 0))
    record.measure("defaults", defaults)
    for cell in _DRY_CELLS if settings.is_dry else CELLS:
        record.measure(cell.name, partial(ours, settings, cell), needs_s=settings.choose(7, 0))
    record.measure("what a step of dcgan64-k4 in bf16 spends", partial(spent, settings))
    record.measure("the goal", partial(goal, record))
    if not settings.is_dry:  # last, because compiling may take all the time that is left
        for cell in _COMPILED_CELLS:
            record.measure(cell.name, partial(ours, settings, cell), needs_s=30)
        record.measure("the goal, with --compile", partial(goal, record))


def config_for(settings: Settings, preset: tuple[str, str], changes: Mapping[str, Any]) -> GanConfig:
    """The config of a preset; in a dry run with narrow networks and small batches."""
    config: AnyConfig = PRESETS[preset].config
    if settings.is_dry:
        tiny = {"network.width": config.network.width / 16, "batch_size": 4}
        config = override(config, tiny if config.growth else tiny | {"network.image_size": 16})
    changed = override(config, dict(changes))
    assert isinstance(changed, GanConfig)
    return changed


def tutorial(settings: Settings, *, is_resident: bool, is_channels_last: bool) -> dict[str, Any]:
    """The loop of PyTorch's tutorial; `is_resident` leaves out the DataLoader, and repeats one batch."""
    config = config_of("dcgan64-k4")
    if settings.is_dry:
        config = config_for(settings, _DCGAN, {})
    network, device = config.network, settings.device
    torch.manual_seed(0)
    loop = TutorialLoop(config, device)
    if is_channels_last:
        loop.use_channels_last()
    if is_resident:
        shape = (config.batch_size, network.channels, network.image_size, network.image_size)
        reals = torch.rand(shape, device=device) * 2 - 1
        if is_channels_last:
            reals = reals.contiguous(memory_format=torch.channels_last)
        return _timed(settings, config.batch_size, lambda: loop.iterate(reals))
    with tempfile.TemporaryDirectory() as folder:
        shape = (int(settings.choose(_PICTURES, 8)), network.channels, network.image_size, network.image_size)
        write_pictures(torch.randint(0, 256, shape, dtype=torch.uint8), Path(folder))
        data = PictureFiles(Path(folder), network.image_size, network.channels)
        speed = loop.images_per_second(data, config.batch_size, settings.choose(5.0, 0.01))
    return _result(config.batch_size, [speed])


def defaults() -> dict[str, Any]:
    """How PyTorch computes in fp32 if nobody asks."""
    cudnn: Any = torch.backends.cudnn  # its stubs lack `conv`
    convolutions, products = cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    benchmark = cudnn.benchmark
    summary = f"convolutions {convolutions}, matrix products {products}, cudnn.benchmark {benchmark}"
    return {"convolutions": convolutions, "products": products, "cudnn.benchmark": benchmark, "summary": summary}


def ours(settings: Settings, cell: Cell) -> dict[str, Any]:
    """The trainer's steps, data on the device."""
    config = config_for(settings, cell.preset, cell.changes)
    if config.compile_networks:
        check_compiler(settings.device)
    with ExitStack() as stack:
        stack.enter_context(_backends(cell))
        training = _training(settings, config, cell.size)
        if cell.is_graph:
            assert isinstance(training, GanTraining)
            stack.enter_context(graphed(training, config))
        result = _timed_steps(settings, training)
        if settings.device.type == "cuda":
            result["peak_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
            result["summary"] += f", {result['peak_memory_mib']} MiB"
    return result


def spent(settings: Settings) -> dict[str, Any]:
    """The share of a step during which the GPU computes, and its kernels, in a file."""
    training = _training(settings, config_for(settings, _DCGAN, _BF16), 64)
    images_per_second(training, 3, 0.0001)
    is_cuda = settings.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    steps = int(settings.choose(_PROFILED_STEPS, 1))
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps):
            training.train_step(0.0)
        if is_cuda:
            torch.cuda.synchronize()
    averages = profiler.key_averages()
    column = "self_device_time_total" if is_cuda else "self_cpu_time_total"
    (settings.keep / "kernels.txt").write_text(averages.table(sort_by=column, row_limit=40))
    if not is_cuda:
        raise Skip("no GPU whose kernels could be timed")
    kernels = [event for event in averages if event.device_type == DeviceType.CUDA]
    busy_ms = sum(event.self_device_time_total for event in kernels) / 1e3 / steps
    launches = sum(event.count for event in kernels) / steps
    waits = _waits(training)
    summary = f"{busy_ms:.2f} ms of kernels, {launches:.0f} launches and {len(waits)} waits a step; see kernels.txt"
    return {"kernels_ms": busy_ms, "launches": launches, "waits": waits, "summary": summary}


def _waits(training: Training) -> list[str]:
    """Where a step waits for the GPU, which keeps it from running ahead."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            training.train_step(0.0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{each.filename}:{each.lineno}" for each in caught if "synchronizing" in str(each.message)]


def goal(record: Record) -> dict[str, Any]:
    """The best setting for dcgan64-k4 against the tutorial's loop."""
    tutorial_ms = record.value(TUTORIAL, "ms_per_step")
    cells = [cell for cell in (*CELLS, *_COMPILED_CELLS) if cell.preset == _DCGAN]
    times = {cell.setting: record.value(cell.name, "ms_per_step") for cell in cells}
    times = {setting: ms for setting, ms in times.items() if ms is not None}
    if tutorial_ms is None or not times:
        raise Skip(f"needs {TUTORIAL!r} and a measurement of dcgan64-k4")
    setting, best_ms = min(times.items(), key=lambda item: cast("float", item[1]))
    ratio = tutorial_ms / best_ms
    wanted = ", ".join(f"{goal:g}x takes {tutorial_ms / goal:.2f} ms" for goal in (_GOAL, _STRETCH))
    summary = f"{ratio:.2f}x the tutorial's loop ({setting}: {best_ms:.2f} of {tutorial_ms:.2f} ms a step; {wanted})"
    return {"ratio": ratio, "setting": setting, "is_reached": ratio >= _GOAL, "summary": summary}


def _training(settings: Settings, config: GanConfig, size: int) -> Training:
    torch.manual_seed(0)
    if settings.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    training = training_at(config, size if config.growth else config.network.image_size, settings.device)
    if config.growth is not None:
        training.restored(size, 1.0)
    return training


def _timed_steps(settings: Settings, training: Training) -> dict[str, Any]:
    steps = int(settings.choose(STEPS_BETWEEN_WAITS, 1))
    images_per_second(training, steps, 0.0001)  # warm-up
    speeds = [images_per_second(training, steps, settings.choose(1.0, 0.0001)) for _ in range(3)]
    return _result(training.batch_size, speeds)


def _timed(settings: Settings, batch_size: int, step: Callable[[], object]) -> dict[str, Any]:
    def measure(seconds: float, *, count: int) -> float:
        began_s, images = time.perf_counter(), 0
        while time.perf_counter() - began_s < seconds:
            for _ in range(count):
                step()
            images += count * batch_size
            if settings.device.type == "cuda":
                torch.cuda.synchronize()
        return images / (time.perf_counter() - began_s)

    count = int(settings.choose(STEPS_BETWEEN_WAITS, 1))
    measure(0.0001, count=count)
    return _result(batch_size, [measure(settings.choose(1.0, 0.0001), count=count) for _ in range(3)])


def _result(batch_size: int, speeds: list[float]) -> dict[str, Any]:
    speed = statistics.median(speeds)
    ms = 1e3 * batch_size / speed
    return {
        "images_per_s": speed,
        "all_images_per_s": speeds,
        "ms_per_step": ms,
        "batch_size": batch_size,
        "summary": f"{speed:,.0f} images/s, {ms:.2f} ms a step of {batch_size}",
    }


@contextmanager
def _backends(cell: Cell) -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn  # its stubs lack `conv`
    products = torch.backends.cuda.matmul
    before = cudnn.conv.fp32_precision, products.fp32_precision, cudnn.benchmark
    if cell.fp32 != "default":
        cudnn.conv.fp32_precision = products.fp32_precision = "ieee" if cell.fp32 == "exact" else "tf32"
    cudnn.benchmark = cell.is_searched
    try:
        yield
    finally:
        cudnn.conv.fp32_precision, products.fp32_precision, cudnn.benchmark = before
