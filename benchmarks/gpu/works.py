"""Does it work at all: versions, a short training, export, serving, and the tests that need a GPU."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.gpu.commands import last_line, run_module
from benchmarks.gpu.record import Record, Skip
from benchmarks.gpu.settings import Settings
from benchmarks.report import machine
from benchmarks.serving import server_process
from client import GanClient
from ganserve.bundle import OUTPUT_PIXELS, example_rows, read_card
from server.engines.loading import load_engine

MODEL: Final = "dcgan"
_ROWS: Final = 64
_MOST_DIFFERENCE: Final = 1  # of 255: rounding at the boundary between two values
_ROOT: Final = Path(__file__).parents[2]
_GPU_TESTS: Final = ("tests/server/engines", "tests/benchmarks/gpu")
_PACKAGES: Final = ("torch", "torchvision", "onnxruntime-gpu", "onnxruntime", "onnx", "onnxscript", "grpcio", "numpy")


def run(settings: Settings, record: Record) -> None:
    """Makes the measurements of this stage."""
    record.measure("machine", partial(about, settings))
    record.measure("train", partial(train, settings))
    record.measure("export", partial(export, settings))
    for flags in ((), ("--cuda-graphs",), ("--precision", "fp16")):
        name = f"serve, pixels as on the CPU: {' '.join(flags) or 'default'}"
        record.measure(name, partial(serve, settings, flags))
    record.measure("tests that need a GPU", partial(gpu_tests, settings), needs_s=settings.choose(15, 0))


def about(settings: Settings) -> dict[str, Any]:
    """The device, the driver and the versions."""
    import onnxruntime

    facts: dict[str, Any] = {"machine": machine(), "providers": onnxruntime.get_available_providers()}
    facts["packages"] = {name: version for name in _PACKAGES if (version := _version(name))}
    if settings.is_dry:
        return facts | {"device": "cpu", "summary": "cpu, for a dry run"}
    import torch

    properties = torch.cuda.get_device_properties(0)
    facts |= {
        "device": properties.name,
        "memory_gib": properties.total_memory / 2**30,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "nvidia-smi": _nvidia_smi(),
    }
    return facts | {"summary": f"{properties.name}, CUDA {torch.version.cuda}, cuDNN {facts['cudnn']}"}


def train(settings: Settings) -> dict[str, Any]:
    """Trains a DCGAN on the built-in digits."""
    flags = ["--steps", str(int(settings.choose(200, 8))), *settings.tiny_flags]
    flags += ["--device", settings.device_name, "--out", str(settings.work / "runs")]
    run_folder = last_line(run_module("trainer", "--model", MODEL, "--dataset", "digits", *flags))
    samples = sorted((run_folder / "samples").glob("*.png"))
    (settings.keep / "trained.png").write_bytes(samples[-1].read_bytes())
    return {"summary": f"{flags[1]} steps"}


def export(settings: Settings) -> dict[str, Any]:
    """Exports the run, with a variant in half precision."""
    runs = sorted((settings.work / "runs").glob("*/config.json"))
    if not runs:
        raise Skip("there is no run")
    text = run_module("exporter", str(runs[-1].parent), "--models", str(_models(settings)), "--fp16")
    return {"summary": text.strip().splitlines()[-1]}


def serve(settings: Settings, flags: Sequence[str]) -> dict[str, Any]:
    """Serves the model on CUDA, fetches a grid, and compares images with the engine on the CPU."""
    folder = _models(settings) / MODEL / "1"
    if not folder.is_dir():
        raise Skip("nothing is exported")
    card = read_card(folder)
    inputs = example_rows(card.input, 0, _ROWS)
    expected = load_engine(folder, card, "onnx", "cpu").run(inputs, frozenset({OUTPUT_PIXELS}))[OUTPUT_PIXELS]
    module = "benchmarks.gpu.stand_in" if settings.is_dry else "server"
    with (
        server_process(_models(settings), ("--device", "cuda", *flags), module) as (_, address),
        GanClient(address) as client,
    ):
        device = client.info(MODEL).device
        images = np.concatenate(
            [client.generate(MODEL, latents=part) for part in (inputs[:1], inputs[1:8], inputs[8:])]
        )
        if not flags:
            grid = str(settings.keep / "served.png")
            run_module("client", "grid", "--model", MODEL, "--n", "64", "--out", grid, "--address", address)
    difference = int(np.abs(images.astype(int) - expected).max())
    if difference > _MOST_DIFFERENCE and "fp16" not in flags:
        raise AssertionError(f"pixels differ by up to {difference} of 255 from those of the CPU")
    return {"device": device, "pixel_difference": difference, "summary": f"on {device}, differs by {difference} of 255"}


def gpu_tests(settings: Settings) -> dict[str, Any]:
    """`pytest -m gpu`, without the settings of pyproject.toml, which need more packages."""
    report = settings.keep / "gpu-tests.txt"
    options = ["-o", "addopts=--import-mode=importlib", "-o", "filterwarnings=default", "-p", "no:cacheprovider"]
    arguments = ["pytest", *options, "-m", "gpu", "-q", "-ra", "--tb=short", *_GPU_TESTS]
    finished = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    report.write_text(finished.stdout + finished.stderr)
    last = finished.stdout.strip().splitlines()[-1] if finished.stdout.strip() else "no output"
    passed = re.search(r"(\d+) passed", last)
    if finished.returncode not in {0, 5}:
        raise AssertionError(f"{last}; gpu-tests.txt has the failures")
    if passed is None:
        raise Skip(f"no CUDA device: {last}")
    return {"passed": int(passed[1]), "summary": last}


def _models(settings: Settings) -> Path:
    return settings.work / "models"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _nvidia_smi() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm,power.draw", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    except OSError as error:
        return str(error)
