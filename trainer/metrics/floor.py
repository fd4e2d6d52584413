"""Two sets of real images, to score against each other: no generator should score better than the second set."""

from __future__ import annotations

from torch import Tensor

from trainer.data.datasets import batch_indices


def disjoint_sets(seed: int, wanted: int, count: int) -> tuple[Tensor, Tensor]:
    """The indices of two disjoint sets of images, drawn with `seed`; the first is the beginning of the seed's order.

    Args:
        seed: of the order.
        wanted: images per set; each has at most half of all images.
        count: images in the data set.
    """
    half = min(wanted, count // 2)
    order = batch_indices(seed, 0, count)
    return order[:half], order[half : 2 * half]
