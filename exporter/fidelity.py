"""Measures how far a variant in reduced precision is from the network in float32, and says what is close enough.

Reads the file as it was written. Knows nothing of how it was made, and nothing of the repository.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch

from exporter.bundle import Fidelity, ImageInput, RowInput, example_rows, proven_batch_rows
from exporter.errors import ParityError
from exporter.graph import ServedGraph
from exporter.verify import Runner

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
