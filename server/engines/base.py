"""What an engine is: rows in (latents or images), images out; which runtime's engine loads a version, and its checks.

Knows files and shapes, no runtime: onnx_engine.py and torchscript_engine.py know one each, and are imported only when
asked for. A TorchScript file holds code, and an ONNX file may name further files, so every file is checked against the
card's hash before it is read.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import (
    CARD_FILE,
    ONNX_FILE,
    OUTPUT_IMAGES,
    OUTPUT_PIXELS,
    TORCHSCRIPT_FILE,
    VARIANT_FILES,
    BundleError,
    Card,
    example_rows,
    verify_file,
)
from ganserve.foreign import first_line
from server.config import Backend, Precision
from server.errors import StartupError

# What a backend can run, and the file it reads for it.
GRAPH_FILES: Final[Mapping[tuple[Backend, Precision], str]] = {
    ("onnx", "fp32"): ONNX_FILE,
    ("onnx", "fp16"): VARIANT_FILES["fp16"],
    ("torchscript", "fp32"): TORCHSCRIPT_FILE,
    ("torchscript", "bf16"): VARIANT_FILES["bf16"],
}


class Engine(Protocol):
    """One loaded graph. `run` may be called from any thread, by several at once unless its engine says otherwise."""

    backend: Backend
    device: str  # "cpu", "cuda:0"
    precision: Precision  # that it computes in; what goes in and comes out is the same in all
    threads: int  # that one call uses on the CPU

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """Computes the wanted outputs of inputs (rows, ...) of the card's row shape and dtype, rows >= 1."""


def graph_file(folder: Path, card: Card, backend: Backend, precision: Precision) -> Path:
    """Returns the path of the graph that a backend runs in a precision, after checking it; see `load_engine`."""
    file_name = GRAPH_FILES.get((backend, precision))
    if file_name is None:
        able = " or ".join(sorted({f"--backend {able}" for able, known in GRAPH_FILES if known == precision}))
        raise StartupError(f"--precision {precision}: --backend {backend} cannot compute in it; use {able}")
    _check_exported(folder, card, precision)
    return verify_graph_file(folder, card, file_name)


def verify_graph_file(folder: Path, card: Card, file_name: str) -> Path:
    """Returns the path of one graph, after checking it and whatever it might refer to.

    Other graphs are not read, so not checked.

    Raises:
        BundleError: a file is not the card's.
    """
    others = {path.name for path in folder.iterdir()} - {*GRAPH_FILES.values(), CARD_FILE}
    for other in sorted(others):
        verify_file(folder, card, other)
    return verify_file(folder, card, file_name)


def _check_exported(folder: Path, card: Card, precision: Precision) -> None:
    fidelity = card.variants.get(precision)
    if precision == "fp32" or (fidelity is not None and fidelity.published):
        return
    if fidelity is None:
        raise BundleError(f"{folder}: has no {precision} variant; export it again with --{precision}")
    raise BundleError(
        f"{folder}: has no {precision} variant, which was refused at export ({fidelity}); use another --precision"
    )


def output_forms(card: Card) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The dtype and the shape, without rows, of each output that the card promises."""
    return {
        OUTPUT_IMAGES: (np.dtype(np.float32), (card.channels, card.height, card.width)),
        OUTPUT_PIXELS: (np.dtype(np.uint8), (card.height, card.width, card.channels)),
    }


def warm_up(engine: Engine, card: Card, max_rows: int) -> None:
    """Runs the smallest and the largest batch, and checks that what comes out is what the card says.

    Raises:
        BundleError: it is not, or the graph fails.
    """
    expected = output_forms(card)
    for rows in sorted({1, max_rows}):
        try:
            results = engine.run(example_rows(card.input, 0, rows), frozenset(expected))
        except Exception as error:
            raise BundleError(
                f"the graph fails on {rows} rows ({first_line(error)}); export the model again"
            ) from error
        for name, (dtype, shape) in expected.items():
            if (results[name].dtype, results[name].shape) != (dtype, (rows, *shape)):
                raise BundleError(
                    f"{name} come out as {results[name].dtype} {results[name].shape} for {rows} rows, and the card says"
                    f" {dtype} {(rows, *shape)}; export the model again"
                )
        if not np.isfinite(results[OUTPUT_IMAGES]).all():
            raise BundleError(f"{OUTPUT_IMAGES} are not finite numbers; train or export the model again")


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cuda_devices() -> int:
    """How many devices the NVIDIA driver shows; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
