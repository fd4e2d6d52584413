"""Distance of translated images to their targets; needs paired test images.

A translator may choose among many right answers, so compare these metrics only between runs on one data set.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The exponents of the scales, finest first: Wang et al. 2003, "Multi-scale structural similarity for image quality
# assessment", section 3.2.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW_PIXELS = 11
WINDOW_SIGMA_PIXELS = 1.5
SMALLEST_IMAGE_PIXELS = 2 * WINDOW_PIXELS
_CHUNK = 64  # pairs per chunk, which bounds memory


def absolute_errors(first: Tensor, second: Tensor) -> Tensor:
    """The mean of |difference| over channels and pixels of each pair, as a share of the range from black to white.

    Takes two float tensors (N, C, H, W) in [-1, 1]; returns float64 (N,), 0 (identical) to 1 (black against white).

    Raises:
        ValueError: the shapes differ, or there are no images.
    """
    _check(first, second)
    return (first - second).abs().mean((1, 2, 3), dtype=torch.float64) / 2


def ms_ssims(first: Tensor, second: Tensor) -> Tensor:
    """The multi-scale structural similarity of each pair, float64 (N,); 1 is identical, larger is better.

    Takes two float tensors (N, C, H, W) in [-1, 1]. They are compared as intensities 0..1, because the metric is
    undefined for negative ones, with a Gaussian window of 11 pixels and sigma 1.5. Each scale halves the image. The
    number of scales depends on the image size (see `scale_weights`), so do not compare metrics of different sizes.

    Raises:
        ValueError: the shapes differ, there are no images, or a side is shorter than 22 pixels.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure  # takes seconds to import

    _check(first, second)
    weights = scale_weights(min(first.shape[-2:]))
    similarities = []
    for one, other in zip(torch.split(first, _CHUNK), torch.split(second, _CHUNK), strict=True):
        of_pairs = multiscale_structural_similarity_index_measure(
            (one.float() + 1) / 2,
            (other.float() + 1) / 2,
            kernel_size=WINDOW_PIXELS,
            sigma=WINDOW_SIGMA_PIXELS,
            data_range=1.0,
            betas=weights,
            reduction="none",
        )
        similarities.append(of_pairs.double().reshape(-1).cpu())
    return torch.cat(similarities)


def scale_weights(size: int) -> tuple[float, ...]:
    """The exponents of the scales that images with a shortest side of `size` pixels allow, finest first; sum 1.

    All five from 176 pixels on, 4 from 99, 3 from 44, 2 from 22: the window must fit the coarsest image, and
    torchmetrics needs a little more. With fewer than five, the first weights are renormalised.

    Raises:
        ValueError: fewer than two scales fit.
    """
    for count in range(len(SCALE_WEIGHTS), 1, -1):
        needed = WINDOW_PIXELS * max(2 ** (count - 1), (count - 1) ** 2)
        if size >= needed:
            chosen = SCALE_WEIGHTS[:count]
            return tuple(weight / sum(chosen) for weight in chosen)
    raise ValueError(f"images of {size} pixels are too small for two scales; use at least {SMALLEST_IMAGE_PIXELS}")


def _check(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim != 4 or not len(first):
        raise ValueError(f"expected pairs of images (N, C, H, W), got {tuple(first.shape)} and {tuple(second.shape)}")
