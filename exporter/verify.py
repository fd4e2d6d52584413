"""Proves that both written files compute what the network computes, whatever the batch size.

Reads the files as they were written. Knows nothing of how they were made, and nothing of the repository.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from exporter.errors import ParityError
from exporter.graph import ServedGraph
from exporter.torchscript import quiet_torchscript
from ganserve.bundle import (
    ONNX_FILE,
    OUTPUT_IMAGES,
    OUTPUT_PIXELS,
    TORCHSCRIPT_FILE,
    Parity,
    RowInput,
    example_rows,
    proven_batch_rows,
)
from ganserve.foreign import first_line

IMAGE_TOLERANCE: Final = 1e-4  # of images in -1 .. 1; wider ranges get as much more
PIXEL_TOLERANCE: Final = 1  # grey levels: a value halfway between two may fall either way

_BATCH_REMEDY = "forward must not turn the batch size into a number: write z.shape[0] or -1, not len(z) or int(...)"

Arrays: TypeAlias = tuple[NDArray[Any], NDArray[Any]]  # images, pixels
Runner: TypeAlias = Callable[[NDArray[Any]], Arrays]


def prove_parity(reference: ServedGraph, folder: Path, row_input: RowInput) -> list[Parity]:
    """Compares both files in `folder` with eager, unfolded PyTorch on CPU; returns one figure a batch size.

    The rows are random: latents, or noise as pixels. A picture of one colour throughout would prove nothing of a
    network with instance norms: they divide rounding errors by a spread of zero.

    Raises:
        ParityError: a file cannot be run, or differs by more than the tolerance; says which, where and by how much.
    """
    reference = reference.eval()
    runners = {
        TORCHSCRIPT_FILE: _load(torchscript_runner, folder / TORCHSCRIPT_FILE),
        ONNX_FILE: _load(lambda path: onnx_runner(path, row_input.name), folder / ONNX_FILE),
    }
    tolerance = IMAGE_TOLERANCE * (reference.value_max - reference.value_min) / 2
    figures = []
    with torch.no_grad():
        height, width = reference(torch.from_numpy(example_rows(row_input, 0, 1)))[0].shape[2:]
    for rows in batch_rows(proven_batch_rows(row_input, height, width)):
        batch = example_rows(row_input, rows, rows)  # fresh ones for each batch size
        with torch.no_grad():
            images, pixels = reference(torch.from_numpy(batch))
        expected = (images.numpy(), pixels.numpy())
        if not np.isfinite(expected[0]).all():
            raise ParityError(f"the network itself gives NaN or infinity at {rows} rows; try another checkpoint")
        differences = {name: _compare(name, run, batch, expected, tolerance) for name, run in runners.items()}
        figures.append(
            Parity(
                rows=rows,
                torchscript_images=differences[TORCHSCRIPT_FILE][0],
                torchscript_pixels=differences[TORCHSCRIPT_FILE][1],
                onnx_images=differences[ONNX_FILE][0],
                onnx_pixels=differences[ONNX_FILE][1],
            )
        )
    return figures


def batch_rows(largest: int) -> list[int]:
    """The batch sizes to compare at: 1, 2, 7 and the largest."""
    return sorted({rows for rows in (1, 2, 7) if rows < largest} | {largest})


def _compare(name: str, run: Runner, batch: NDArray[Any], expected: Arrays, tolerance: float) -> tuple[float, int]:
    """Returns the largest differences of images and pixels."""
    where = f"{name} at {len(batch)} rows"
    try:
        actual = run(batch)
    except Exception as error:  # both runtimes raise errors of their own making
        raise ParityError(f"{where} cannot be run ({first_line(error)}); {_BATCH_REMEDY}") from error
    for output, got, wanted in zip((OUTPUT_IMAGES, OUTPUT_PIXELS), actual, expected, strict=True):
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise ParityError(
                f"{where}: {output} are {got.dtype} {got.shape}, eager PyTorch gives {wanted.dtype} {wanted.shape};"
                f" {_BATCH_REMEDY}"
            )
    if not np.isfinite(actual[0]).all():
        raise ParityError(f"{where}: images hold NaN or infinity, eager PyTorch's do not")
    image_difference = float(np.abs(actual[0] - expected[0]).max())
    pixel_difference = int(np.abs(actual[1].astype(np.int16) - expected[1].astype(np.int16)).max())
    if image_difference > tolerance or pixel_difference > PIXEL_TOLERANCE:
        raise ParityError(
            f"{where} differs from eager PyTorch by up to {image_difference:.2g} in images (allowed {tolerance:.2g})"
            f" and {pixel_difference} grey levels in pixels (allowed {PIXEL_TOLERANCE})"
        )
    return image_difference, pixel_difference


def _load(open_file: Callable[[Path], Runner], path: Path) -> Runner:
    try:
        return open_file(path)
    except Exception as error:
        raise ParityError(f"{path.name} cannot be loaded ({first_line(error)})") from error


def torchscript_runner(path: Path) -> Runner:
    """Loads a TorchScript file; what it returns runs a batch of rows on the CPU."""
    with quiet_torchscript():
        module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

    def run(batch: NDArray[Any]) -> Arrays:
        try:
            with torch.no_grad():
                images, pixels = module(torch.from_numpy(batch))
        except RuntimeError as error:  # the interpreter's own traceback stands before the reason
            raise RuntimeError(str(error).rsplit("RuntimeError: ", 1)[-1]) from error
        return images.numpy(), pixels.numpy()

    return run


def onnx_runner(path: Path, input_name: str) -> Runner:
    """Loads an ONNX file; what it returns runs a batch of rows on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(batch: NDArray[Any]) -> Arrays:
        images, pixels = session.run([OUTPUT_IMAGES, OUTPUT_PIXELS], {input_name: batch})
        return images, pixels

    return run
