"""Standard errors of metrics: how much a metric would move with other images of the same generator and data set.

The metrics are computed again from random halves of the images. Their standard deviation over the halves is the
standard error of the metric of all images: the delete-d jackknife of Shao and Wu 1989, "A General Theory for Jackknife
Variance Estimation", with d half the images. The bootstrap would draw images twice, and a copy is the nearest neighbour
of its original.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ganserve.metrics import STANDARD_ERROR

HALVES: Final = 16  # the relative error of a standard deviation of 16 values is 18%
MOST_IMAGES: Final = 2048  # the first of larger sets; the error is scaled with the square root of the number
FEWEST_IMAGES: Final = 24  # half of them must be enough for nearest neighbours

Statistics = Callable[[Tensor, Tensor], Sequence[float]]  # indices of reals and of fakes -> some metrics


def half_sample_errors(statistics_of: Statistics, reals: int, fakes: int, seed: int) -> list[float]:
    """The standard error of each metric, for images in random order.

    Args:
        statistics_of: computes the metrics of half of the reals and half of the fakes, given by int64 indices.
        reals: number of real images.
        fakes: number of generated images.
        seed: of the halves.

    Returns:
        One value per metric; nothing with fewer than `FEWEST_IMAGES` images.
    """
    if min(reals, fakes) < FEWEST_IMAGES:
        return []
    generator = np.random.Generator(np.random.PCG64([seed, 2]))
    share = used_share(max(reals, fakes))
    rows = []
    for _ in range(HALVES):
        counts = (int(share * reals), int(share * fakes))
        rows.append(statistics_of(*(torch.from_numpy(generator.permutation(count)[: count // 2]) for count in counts)))
    return [math.sqrt(share) * statistics.stdev(values) for values in zip(*rows, strict=True)]


def used_share(count: int) -> float:
    """The share of a set of `count` images that its halves are drawn from."""
    return min(1.0, MOST_IMAGES / count)


def recorded(names: Sequence[str], errors: Sequence[float]) -> dict[str, Any]:
    """The standard errors of the named metrics as entries of a protocol; what is unknown is left out."""
    return {
        f"{name}{STANDARD_ERROR}": error for name, error in zip(names, errors, strict=False) if math.isfinite(error)
    }


def error_of_mean(values: Tensor) -> float:
    """The standard error of the mean of independent values (N,); NaN for a single one."""
    return float(values.double().std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
