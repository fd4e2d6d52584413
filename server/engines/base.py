"""The protocol of engines: rows (latents or images) in, images out. Also reads and verifies the files they load.

onnx_cpu.py, onnx_cuda.py and torchscript.py implement it. A TorchScript file contains code, so an engine loads the very
bytes that were checked against the hash in the card.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import (
    ONNX_FILE,
    OUTPUT_IMAGES,
    TORCHSCRIPT_FILE,
    VARIANT_FILES,
    BundleError,
    Card,
    example_rows,
    read_verified_file,
)
from ganserve.foreign import first_line
from ganserve.wording import counted
from server.config import Backend, Precision
from server.errors import StartupError

# The precisions of each backend, and the file for each.
GRAPH_FILES: Final[Mapping[tuple[Backend, Precision], str]] = {
    ("onnx", "fp32"): ONNX_FILE,
    ("onnx", "fp16"): VARIANT_FILES["fp16"],
    ("torchscript", "fp32"): TORCHSCRIPT_FILE,
    ("torchscript", "bf16"): VARIANT_FILES["bf16"],
}


@dataclass(frozen=True)
class GraphFile:
    """A verified file of a bundle, in memory. Drop it once the engine is loaded: it is as large as the weights."""

    path: Path  # for messages
    content: bytes = field(repr=False)


class Engine(Protocol):
    """One loaded graph. Several threads may call `run` at once unless the engine says otherwise."""

    backend: Backend
    device: str  # "cpu", "cuda:0"
    precision: Precision  # of the computation; the types of inputs and outputs do not depend on it
    threads: int  # per call on the CPU
    has_loop: bool  # the time of a run may depend on the values of the rows, so the event loop must not wait for it

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """Computes the wanted outputs of inputs (rows, *row_shape) of the card's dtype, rows >= 1."""


def read_graph(folder: Path, card: Card, backend: Backend, precision: Precision) -> GraphFile:
    """Reads and verifies the graph that a backend runs. It is one file; other files in the folder do not matter.

    Raises:
        BundleError: a file does not match the card, or the version was not exported in this precision.
        StartupError: the backend does not support this precision.
    """
    file_name = GRAPH_FILES.get((backend, precision))
    if file_name is None:
        able = " or ".join(sorted({f"--backend {able}" for able, known in GRAPH_FILES if known == precision}))
        raise StartupError(f"--precision {precision}: not supported by --backend {backend}; use {able}")
    _check_exported(folder, card, precision)
    return GraphFile(folder / file_name, read_verified_file(folder, card, file_name))


def _check_exported(folder: Path, card: Card, precision: Precision) -> None:
    fidelity = card.variants.get(precision)
    if precision == "fp32" or (fidelity is not None and fidelity.published):
        return
    if fidelity is None:
        raise BundleError(f"{folder}: has no {precision} variant; export it again with --{precision}")
    raise BundleError(f"{folder}: its {precision} variant was rejected at export ({fidelity}); use another --precision")


def warm_up(engine: Engine, card: Card, max_rows: int) -> None:
    """Runs the smallest and the largest batch, and checks types and shapes of the outputs against the card.

    Raises:
        BundleError: the outputs do not match the card, or the graph fails.
    """
    for rows in sorted({1, max_rows}):
        try:
            results = engine.run(example_rows(card.input, 0, rows), frozenset(card.outputs))
        except Exception as error:
            raise BundleError(
                f"the graph fails on {counted(rows, 'row')} ({first_line(error)}); export the model again"
            ) from error
        for name, (dtype, shape) in card.outputs.items():
            actual = (str(results[name].dtype), results[name].shape)
            if actual != (dtype, (rows, *shape)):
                raise BundleError(
                    f"{name} are {actual[0]} {actual[1]} for {counted(rows, 'row')}, but the card says"
                    f" {dtype} {(rows, *shape)}; export the model again"
                )
        if not np.isfinite(results[OUTPUT_IMAGES]).all():
            raise BundleError(f"{OUTPUT_IMAGES} are not finite numbers; train or export the model again")


def cuda_devices() -> int:
    """The number of devices that the NVIDIA driver reports; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
