"""Writes and measures variants of a bundle in reduced precision, and drops those that are not close enough.

Inputs and outputs have the same types as in float32, so every engine serves a variant in the same way.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporter.errors import ExportError, ParityError
from exporter.fold import fold_batch_norms
from exporter.graph import ServedGraph
from exporter.onnx_graph import write_onnx
from exporter.source import Source
from exporter.torchscript import write_torchscript
from exporter.verify import Runner, open_runner
from ganserve.bundle import VARIANT_FILES, Fidelity, ImageInput, RowInput, example_rows, proven_batch_rows
from ganserve.foreign import first_line
from ganserve.wording import counted

# A variant is published only if it reaches both.
MIN_WITHIN_ONE_LEVEL: Final = 0.999  # share of pixel values
MIN_PSNR_DB: Final = 50.0

_MAX_PSNR_DB = 99.0  # for equal pixels, because JSON has no infinity
_IMAGES = 256
_MIN_IMAGES = 16
_MAX_PIXELS = 1 << 22  # compared in total: 256 images of 128x128
_SEED = 1 << 20  # far from the seeds of the parity check

Announce = Callable[[str], None]  # called with the name of each step as it begins


@dataclass(frozen=True)
class Variant:
    """A reduced precision, and the memory format of its weights."""

    dtype: torch.dtype
    channels_last: bool


VARIANTS: Final[Mapping[str, Variant]] = {
    # For CPUs, where TorchScript computes in bfloat16 and ONNX Runtime does not.
    "bf16": Variant(torch.bfloat16, channels_last=True),
    # For CUDA. It is measured on the CPU, where ONNX Runtime casts to float32 around each node without a float16
    # kernel: the result includes rounded weights, but only part of the rounding of activations.
    "fp16": Variant(torch.float16, channels_last=False),
}


class Reduced(nn.Module):
    """Casts its input to `dtype`, computes in it, and casts the images back to float32.

    Args:
        network: Rows or images -> images (N, C, H, W). Its weights are cast in place, so pass a copy.
        dtype: torch.bfloat16 or torch.float16.
        channels_last: Keep weights and activations channels last, which is faster for convolutions on a CPU.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, *, channels_last: bool) -> None:
        super().__init__()
        self.network = network.to(dtype)
        if channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.dtype = dtype
        self.channels_last = channels_last

    def forward(self, rows: Tensor) -> Tensor:
        """Float32 latents (N, latent_dim) or images (N, C, H, W) -> float32 images (N, C, H, W)."""
        rows = rows.to(self.dtype)
        if self.channels_last and rows.ndim == 4:
            rows = rows.contiguous(memory_format=torch.channels_last)
        images: Tensor = self.network(rows)
        return images.to(torch.float32)


def build_variant(
    precision: str,
    source: Source,
    reference: ServedGraph,
    example: Tensor,
    staged: Path,
    announce: Announce,
    *,
    fold: bool,
) -> Fidelity:
    """Writes one variant into `staged` and measures it; deletes the file if it is not close enough.

    Dropping a variant is not an error: `announce` gets one line that says why.

    Args:
        precision: A key of `VARIANTS`.
        source: The network in float32; it is not changed.
        reference: The graph in float32 to compare with.
        example: Rows to trace with.
        staged: The folder to write to; the file name is in `VARIANT_FILES`.
        announce: Called with the name of each step as it begins.
        fold: Fold BatchNorm first.
    """
    path = staged / VARIANT_FILES[precision]
    announce(f"write and measure {precision}")
    try:
        fidelity = _write_and_measure(VARIANTS[precision], source, reference, example, path, fold=fold)
        reason = f"{fidelity}; required: {MIN_WITHIN_ONE_LEVEL:.1%} and {MIN_PSNR_DB:.0f} dB"
    except ExportError as error:
        fidelity, reason = Fidelity(0, 0.0, 0.0, 255, published=False), str(error)
    if not fidelity.published:
        path.unlink(missing_ok=True)
        announce(f"skip {precision}, {path.name} is not published: {reason}")
    return fidelity


def _write_and_measure(
    variant: Variant, source: Source, reference: ServedGraph, example: Tensor, path: Path, *, fold: bool
) -> Fidelity:
    try:
        network = fold_batch_norms(source.network) if fold else copy.deepcopy(source.network)
        reduced = Reduced(network, variant.dtype, channels_last=variant.channels_last)
        graph = ServedGraph(reduced, source.input, source.value_min, source.value_max)
        if path.suffix == ".onnx":
            write_onnx(graph, source.input.name, example, path)
        else:
            write_torchscript(graph, example, path)
        return measure_fidelity(reference, open_runner(path, source.input.name), source.input)
    except (ExportError, OSError):
        raise
    except Exception as error:  # the network and both runtimes may raise anything
        name = str(variant.dtype).removeprefix("torch.")
        raise ExportError(f"the network does not run in {name} ({first_line(error)})") from error


def measure_fidelity(reference: ServedGraph, run: Runner, row_input: RowInput) -> Fidelity:
    """Compares the pixels of a variant with those of eager PyTorch in float32 on the CPU, for random rows.

    A pixel value whose image value is NaN or infinite counts as wrong by 255 levels.

    Args:
        reference: The graph in float32, before folding.
        run: The written variant.
        row_input: The input of the network.

    Raises:
        ParityError: The outputs differ from the network's in dtype or shape.
    """
    with torch.no_grad():
        height, width = reference(torch.from_numpy(example_rows(row_input, 0, 1)))[0].shape[2:]
    images, compared = compared_images(row_input, height, width), 0
    levels = np.zeros(256, np.int64)  # number of pixel values by their difference in levels
    while compared < images:
        rows = proven_batch_rows(row_input, height, width) if compared else 1  # a single row, then full batches
        batch = example_rows(row_input, _SEED + compared, min(rows, images - compared))
        compared += len(batch)
        with torch.no_grad():
            expected_images, expected = (output.numpy() for output in reference(torch.from_numpy(batch)))
        actual_images, actual = run(batch)
        forms = [(array.dtype, array.shape) for array in (actual_images, actual)]
        if forms != [(array.dtype, array.shape) for array in (expected_images, expected)]:
            raise ParityError(
                f"returns {forms[0][0]} {forms[0][1]} and {forms[1][0]} {forms[1][1]} for {counted(len(batch), 'row')}"
            )
        differences = np.abs(actual.astype(np.int16) - expected.astype(np.int16))
        differences[~np.isfinite(actual_images).transpose(0, 2, 3, 1)] = 255
        levels += np.bincount(differences.ravel(), minlength=256)
    return _judge(levels, images)


def compared_images(row_input: RowInput, height: int, width: int) -> int:
    """The number of images to compare: 256 up to 128x128 pixels, fewer above, at least 16."""
    pixels_in = row_input.height * row_input.width if isinstance(row_input, ImageInput) else 0
    return max(_MIN_IMAGES, min(_IMAGES, _MAX_PIXELS // max(height * width, pixels_in)))


def _judge(levels: NDArray[np.int64], images: int) -> Fidelity:
    total = int(levels.sum())
    squared_error = float((levels * np.arange(256) ** 2).sum()) / total
    psnr_db = min(_MAX_PSNR_DB, 10 * math.log10(255**2 / squared_error)) if squared_error else _MAX_PSNR_DB
    within_one_level = int(levels[:2].sum()) / total
    return Fidelity(
        images=images,
        within_one_level=within_one_level,
        psnr_db=psnr_db,
        largest_level_difference=int(np.flatnonzero(levels).max()),
        published=within_one_level >= MIN_WITHIN_ONE_LEVEL and psnr_db >= MIN_PSNR_DB,
    )
