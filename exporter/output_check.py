"""Decides whether what a network puts out can be served at all. Knows nothing of formats and files."""

from __future__ import annotations

import torch

from exporter.errors import InputError
from exporter.graph import served_graph
from exporter.source import Source
from ganserve.bundle import example_rows, fitting_batch_rows

_ROWS = 8  # of images that are small enough
_FEW_ROWS = 2
_SEED = 0


def check_output(source: Source) -> tuple[int, int, int]:
    """Makes a few images of random rows and returns their shape (C, H, W).

    Raises:
        InputError: they are not images of up to 4 channels in about the source's value range, or the image of a row
            depends on anything but the row.
    """
    graph = served_graph(source.network, source.input, source.value_min, source.value_max)
    with torch.no_grad():
        few = graph.images(torch.from_numpy(example_rows(source.input, _SEED, _FEW_ROWS)))
    if few.ndim != 4 or few.dtype != torch.float32:
        raise InputError(f"the network gives {few.dtype} {tuple(few.shape)}, not float32 images (N, C, H, W)")
    channels, height, width = few.shape[1:]
    if source.image_shape not in (None, (channels, height, width)):
        raise InputError(f"the network gives images {(channels, height, width)}, but its run {source.image_shape}")
    if not 1 <= channels <= 4:
        raise InputError(f"the network gives images of {channels} channels; images have 1 to 4")
    count = min(_ROWS, fitting_batch_rows(source.input, height, width))
    rows = torch.from_numpy(example_rows(source.input, _SEED, count))
    with torch.no_grad():
        images = graph.images(rows)
        first_images = graph.images(rows[: count // 2])
    if not torch.isfinite(images).all():
        raise InputError("the network gives NaN or infinity; was its training healthy? Try another checkpoint")
    _check_range(images, source)
    if (images[: count // 2] - first_images).abs().max() > 1e-3 * (source.value_max - source.value_min):
        raise InputError(
            "the image of a row changes with its batch or from call to call, so no server could repeat it:"
            " is there noise or dropout in forward, or a BatchNorm without running statistics?"
        )
    return channels, height, width


def _check_range(images: torch.Tensor, source: Source) -> None:
    low, high = float(images.min()), float(images.max())
    half_span = (source.value_max - source.value_min) / 2
    # A network that ends without tanh overshoots here and there; one of another range is outside most of the time.
    outside = (images < source.value_min - half_span) | (images > source.value_max + half_span)
    if outside.float().mean() > 0.5:
        raise InputError(
            f"the network's images lie in {low:.3g} .. {high:.3g}, not about"
            f" {source.value_min:g} .. {source.value_max:g}; give its range with --value-range"
        )
