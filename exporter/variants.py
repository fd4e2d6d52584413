"""The variants of a bundle in reduced precision: a table, and how one is written, measured and perhaps refused.

Each has the interface of the files in float32, so that every engine serves it alike. Knows nothing of the repository.
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
from torch import Tensor, nn

from exporter.errors import ExportError, ParityError
from exporter.fold import fold_batch_norms
from exporter.graph import ServedGraph, served_graph
from exporter.onnx_graph import write_onnx
from exporter.source import Source
from exporter.torchscript import write_torchscript
from exporter.verify import Runner, onnx_runner, torchscript_runner
from ganserve.bundle import VARIANT_FILES, Fidelity, ImageInput, RowInput, example_rows, proven_batch_rows
from ganserve.foreign import first_line

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """One reduced precision, and the format it is written in."""

    dtype: torch.dtype
    channels_last: bool
    write: Callable[[nn.Module, str, Tensor, Path], None]  # graph, name of its input, example rows, where to
    open: Callable[[Path, str], Runner]


def _write_torchscript(graph: nn.Module, input_name: str, rows: Tensor, path: Path) -> None:
    write_torchscript(graph, rows, path)  # which takes its input by position


def _open_torchscript(path: Path, input_name: str) -> Runner:
    return torchscript_runner(path)


VARIANTS: Final[Mapping[str, Variant]] = {
    # For CPUs, where TorchScript computes in bfloat16 and ONNX Runtime does not.
    "bf16": Variant(torch.bfloat16, True, _write_torchscript, _open_torchscript),
    # For CUDA. It is measured on the CPU, where ONNX Runtime casts back to float32 around each node that it cannot
    # compute in float16: the figures are of the rounded weights, and leave out what rounded activations add.
    "fp16": Variant(torch.float16, False, write_onnx, onnx_runner),
}


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
    """Writes one variant into `staged` and measures it; takes it away again if it is not close enough.

    A variant that is refused is no error: one line, by `announce`, says so and why.

    Args:
        precision: a key of `VARIANTS`.
        source: the network in float32; it is not changed.
        reference: the graph in float32 that the variant is compared with.
        example: rows to trace with.
        staged: where the file goes, under its name in `VARIANT_FILES`.
        announce: called with the name of each step as it begins.
        fold: fold BatchNorms first.
    """
    variant, path = VARIANTS[precision], staged / VARIANT_FILES[precision]
    announce(f"write and measure {precision}")
    try:
        fidelity = _write_and_measure(variant, source, reference, example, path, fold=fold)
    except ExportError as error:
        fidelity, reason = unwritten(), str(error)
    else:
        reason = f"{fidelity}; {LIMITS}"
    if not fidelity.published:
        path.unlink(missing_ok=True)
        announce(f"refuse {precision}, and go on without {path.name}: {reason}")
    return fidelity


def _write_and_measure(
    variant: Variant, source: Source, reference: ServedGraph, example: Tensor, path: Path, *, fold: bool
) -> Fidelity:
    try:
        network = fold_batch_norms(source.network) if fold else copy.deepcopy(source.network)
        reduced = Reduced(network, variant.dtype, channels_last=variant.channels_last)
        graph = served_graph(reduced, source.input, source.value_min, source.value_max)
        variant.write(graph, source.input.name, example, path)
        run = variant.open(path, source.input.name)
        return measure_fidelity(reference, run, source.input)
    except (ExportError, OSError):
        raise
    except Exception as error:  # of anyone's network, of two runtimes
        name = str(variant.dtype).removeprefix("torch.")
        raise ExportError(f"the network does not run in {name} ({first_line(error)})") from error


class Reduced(nn.Module):
    """Casts what goes in, computes in `dtype`, and casts the images back: all around it stays in float32.

    Args:
        network: rows or images -> images (N, C, H, W). Its weights are cast in place, so give a copy.
        dtype: torch.bfloat16 or torch.float16.
        channels_last: keep weights and activations in that order, which convolutions in reduced precision are written
            for on a CPU.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, *, channels_last: bool) -> None:
        super().__init__()
        self.network = network.to(dtype)
        if channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.dtype = dtype
        self.channels_last = channels_last

    def forward(self, rows: Tensor) -> Tensor:
        """Float32 in, latents (N, latent_dim) or images (N, C, H, W); float32 images (N, C, H, W) out."""
        rows = rows.to(self.dtype)
        if self.channels_last and rows.ndim == 4:
            rows = rows.contiguous(memory_format=torch.channels_last)
        images: Tensor = self.network(rows)
        return images.to(torch.float32)


MIN_WITHIN_ONE_LEVEL: Final = 0.999  # of pixel values
MIN_PSNR_DB: Final = 50.0
LIMITS: Final = f"the limits are {MIN_WITHIN_ONE_LEVEL:.1%} and {MIN_PSNR_DB:.0f} dB"

_MAX_PSNR_DB = 99.0  # of pixels that are all the same: JSON has no infinity
_IMAGES = 256
_MIN_IMAGES = 16
_MAX_PIXELS = 1 << 22  # compared in all: 256 images of 128x128
_SEED = 1 << 20  # apart from those of the parity proof, which are numbers of rows


def unwritten() -> Fidelity:
    """The fidelity of a variant that does not even run."""
    return Fidelity(0, 0.0, 0.0, 255, published=False)


def measure_fidelity(reference: ServedGraph, run: Runner, row_input: RowInput) -> Fidelity:
    """Compares the pixels of `run` with those of eager, unfolded PyTorch in float32 on CPU, over random rows.

    A pixel whose image is NaN or infinite counts as wrong by all 255 levels.

    Args:
        reference: the network in float32.
        run: the written variant; rows -> images, pixels.
        row_input: what a row is.

    Raises:
        ParityError: the outputs have other dtypes or shapes than those of the network.
    """
    reference = reference.eval()
    with torch.no_grad():
        height, width = reference(torch.from_numpy(example_rows(row_input, 0, 1)))[0].shape[2:]
    images, compared = compared_images(row_input, height, width), 0
    levels = np.zeros(256, np.int64)  # how many pixel values differ by each number of levels
    while compared < images:
        rows = proven_batch_rows(row_input, height, width) if compared else 1  # a lone row, then full batches
        batch = example_rows(row_input, _SEED + compared, min(rows, images - compared))
        compared += len(batch)
        with torch.no_grad():
            expected_images, expected = (output.numpy() for output in reference(torch.from_numpy(batch)))
        actual_images, actual = run(batch)
        forms = [(array.dtype, array.shape) for array in (actual_images, actual)]
        if forms != [(array.dtype, array.shape) for array in (expected_images, expected)]:
            raise ParityError(f"gives {forms[0][0]} {forms[0][1]} and {forms[1][0]} {forms[1][1]} at {len(batch)} rows")
        differences = np.abs(actual.astype(np.int16) - expected.astype(np.int16))
        differences[~np.isfinite(actual_images).transpose(0, 2, 3, 1)] = 255
        levels += np.bincount(differences.ravel(), minlength=256)
    return _judge(levels, images)


def compared_images(row_input: RowInput, height: int, width: int) -> int:
    """How many images are compared: 256 up to 128x128 pixels, fewer of larger ones, but never below 16."""
    pixels_in = row_input.height * row_input.width if isinstance(row_input, ImageInput) else 0
    return max(_MIN_IMAGES, min(_IMAGES, _MAX_PIXELS // max(height * width, pixels_in)))


def _judge(levels: np.ndarray[tuple[int], np.dtype[np.int64]], images: int) -> Fidelity:
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
