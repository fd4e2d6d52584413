"""Checks that a network's images can be served, and that both exported files compute what the network computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from exporter.errors import InputError, ParityError
from exporter.graph import ServedGraph
from exporter.source import Source
from exporter.torchscript import quiet_torchscript
from exporter.value_range import describe_range
from ganserve.bundle import (
    ONNX_FILE,
    OUTPUT_IMAGES,
    OUTPUT_PIXELS,
    TORCHSCRIPT_FILE,
    Parity,
    RowInput,
    example_rows,
    fitting_batch_rows,
    proven_batch_rows,
)
from ganserve.foreign import first_line
from ganserve.machine import usable_cores
from ganserve.wording import counted

IMAGE_TOLERANCE: Final = 1e-4  # for images in -1 .. 1; grows with the value range
PIXEL_TOLERANCE: Final = 1  # grey levels: a value halfway between two levels may round either way

_OUTPUT_CHECK_ROWS = 8  # fewer for large images
_BATCH_REMEDY = "forward must keep the batch size dynamic: write z.shape[0] or -1, not len(z) or int(...)"

Arrays: TypeAlias = tuple[NDArray[Any], NDArray[Any]]  # images, pixels
Runner: TypeAlias = Callable[[NDArray[Any]], Arrays]  # rows -> images, pixels


def check_output(
    source: Source, graph: ServedGraph, note: Callable[[str], None] = lambda line: None
) -> tuple[int, int, int]:
    """Computes a few images from random rows, checks them, and returns their shape (C, H, W).

    Args:
        source: The network.
        graph: The served graph of that network.
        note: Called with lines for the user: the range of the values, and a warning if it is doubtful.

    Raises:
        InputError: The outputs are not images of 1 to 4 channels in about the source's value range, or the image of a
            row depends on anything but the row.
    """
    with torch.no_grad():
        few = graph.images(torch.from_numpy(example_rows(source.input, 0, 2)))
    if few.ndim != 4 or few.dtype != torch.float32:
        remedy = "; return images.float() in a subclass, as in docs/importing.md" if few.ndim == 4 else ""
        raise InputError(f"the network returns {few.dtype} {tuple(few.shape)}, not float32 images (N, C, H, W){remedy}")
    channels, height, width = few.shape[1:]
    if source.image_shape not in (None, (channels, height, width)):
        raise InputError(
            f"the network returns images of shape {(channels, height, width)}, but its run says {source.image_shape}"
        )
    if not 1 <= channels <= 4:
        raise InputError(f"the network returns images of {channels} channels; only 1 to 4 can be served")
    count = min(_OUTPUT_CHECK_ROWS, fitting_batch_rows(source.input, height, width))
    rows = torch.from_numpy(example_rows(source.input, 0, count))
    with torch.no_grad():
        images = graph.images(rows)
        first_images = graph.images(rows[: count // 2])
    if not torch.isfinite(images).all():
        raise InputError("the network returns NaN or infinity; try another checkpoint")
    span = source.value_max - source.value_min
    # A network without tanh overshoots in places; one with another value range is outside almost everywhere.
    outside = (images < source.value_min - span / 2) | (images > source.value_max + span / 2)
    if outside.float().mean() > 0.5:
        raise InputError(
            f"the network's images have values in {float(images.min()):.3g} .. {float(images.max()):.3g}, not in about"
            f" {source.value_min:g} .. {source.value_max:g}; give their range with --value-range"
        )
    if (images[: count // 2] - first_images).abs().max() > 1e-3 * span:
        raise InputError(
            "the image of a row depends on the rest of its batch or varies from call to call, so a server cannot"
            " reproduce it; remove noise and dropout from forward, and give every BatchNorm running statistics"
        )
    for line in describe_range(images, source.value_min, source.value_max, declared=not source.kind):
        note(line)
    return channels, height, width


def prove_parity(reference: ServedGraph, folder: Path, row_input: RowInput) -> list[Parity]:
    """Compares both files in `folder` with eager PyTorch on the CPU, at 1, 2, 7 and the largest number of rows.

    The rows are random. An image of one colour would prove nothing for a network with instance norm, which divides
    rounding errors by a standard deviation of zero.

    Args:
        reference: The graph before folding.
        folder: Holds `TORCHSCRIPT_FILE` and `ONNX_FILE`.
        row_input: The input of the network.

    Returns:
        The largest differences, one entry per batch size.

    Raises:
        ParityError: A file does not run, or differs by more than the tolerance; says which, where and by how much.
    """
    runners = {}
    for name in (TORCHSCRIPT_FILE, ONNX_FILE):
        try:
            runners[name] = open_runner(folder / name, row_input.name)
        except Exception as error:  # each runtime raises its own errors
            raise ParityError(f"{name} cannot be loaded ({first_line(error)})") from error
    tolerance = image_tolerance(reference)
    results = []
    with torch.no_grad():
        height, width = reference(torch.from_numpy(example_rows(row_input, 0, 1)))[0].shape[2:]
    largest = proven_batch_rows(row_input, height, width)
    for rows in sorted({rows for rows in (1, 2, 7) if rows < largest} | {largest}):
        batch = example_rows(row_input, rows, rows)
        with torch.no_grad():
            images, pixels = reference(torch.from_numpy(batch))
        expected = (images.numpy(), pixels.numpy())
        if not np.isfinite(expected[0]).all():
            raise ParityError(f"the network returns NaN or infinity for {counted(rows, 'row')}; try another checkpoint")
        differences = {name: _compare(name, run, batch, expected, tolerance) for name, run in runners.items()}
        results.append(
            Parity(
                rows=rows,
                torchscript_images=differences[TORCHSCRIPT_FILE][0],
                torchscript_pixels=differences[TORCHSCRIPT_FILE][1],
                onnx_images=differences[ONNX_FILE][0],
                onnx_pixels=differences[ONNX_FILE][1],
            )
        )
    return results


def image_tolerance(graph: ServedGraph) -> float:
    """The largest accepted difference of an image value."""
    return IMAGE_TOLERANCE * (graph.value_max - graph.value_min) / 2


def open_runner(path: Path, input_name: str) -> Runner:
    """Loads an ONNX or TorchScript file, by its suffix; the returned function runs a batch of rows on the CPU."""
    if path.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = usable_cores()  # ONNX Runtime does not know of CPU quotas
        # Threads that wait by spinning take the core from the others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def run_onnx(batch: NDArray[Any]) -> Arrays:
            images, pixels = session.run([OUTPUT_IMAGES, OUTPUT_PIXELS], {input_name: batch})
            return images, pixels

        return run_onnx

    with quiet_torchscript():
        module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

    def run_torchscript(batch: NDArray[Any]) -> Arrays:
        try:
            with torch.no_grad():
                images, pixels = module(torch.from_numpy(batch))
        except RuntimeError as error:  # drop the interpreter's traceback, which comes before the reason
            raise RuntimeError(str(error).rsplit("RuntimeError: ", 1)[-1]) from error
        return images.numpy(), pixels.numpy()

    return run_torchscript


def _compare(name: str, run: Runner, batch: NDArray[Any], expected: Arrays, tolerance: float) -> tuple[float, int]:
    """Returns the largest differences of images and pixels."""
    where = f"{name} at {counted(len(batch), 'row')}"
    try:
        actual = run(batch)
    except Exception as error:  # each runtime raises its own errors
        raise ParityError(f"{where} does not run ({first_line(error)}); {_BATCH_REMEDY}") from error
    for output, got, wanted in zip((OUTPUT_IMAGES, OUTPUT_PIXELS), actual, expected, strict=True):
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise ParityError(
                f"{where}: {output} are {got.dtype} {got.shape}, eager PyTorch gives {wanted.dtype} {wanted.shape};"
                f" {_BATCH_REMEDY}"
            )
    if not np.isfinite(actual[0]).all():
        raise ParityError(f"{where}: images hold NaN or infinity, but those of eager PyTorch do not")
    image_difference = float(np.abs(actual[0] - expected[0]).max())
    pixel_difference = int(np.abs(actual[1].astype(np.int16) - expected[1].astype(np.int16)).max())
    if image_difference > tolerance or pixel_difference > PIXEL_TOLERANCE:
        raise ParityError(
            f"{where} differs from eager PyTorch by up to {image_difference:.2g} in images (allowed {tolerance:.2g})"
            f" and {pixel_difference} grey levels in pixels (allowed {PIXEL_TOLERANCE})"
        )
    return image_difference, pixel_difference
