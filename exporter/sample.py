"""Draws the sample of a bundle: a picture of what its generator makes, for people who find the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from exporter.graph import ServedGraph
from ganserve.bundle import RowInput, example_rows, fitting_batch_rows
from ganserve.grids import SAMPLE_SEED, fitting_grid, sample_rows


def write_sample(reference: ServedGraph, row_input: RowInput, height: int, width: int, path: Path) -> None:
    """Writes a grid of the first images of `SAMPLE_SEED`, as `ganclient info --out` shows it.

    Args:
        reference: The network, in eval mode, on the CPU.
        row_input: Its input. Random images say nothing about a translator, so call this for a `LatentInput`.
        height: Of an image, in pixels.
        width: Of an image, in pixels.
        path: The PNG file to write.
    """
    rows = torch.from_numpy(example_rows(row_input, SAMPLE_SEED, sample_rows(height, width)))
    with torch.no_grad():
        batches = [
            reference(batch)[1].numpy() for batch in torch.split(rows, fitting_batch_rows(row_input, height, width))
        ]
    fitting_grid(np.concatenate(batches)).save(path, format="PNG")
