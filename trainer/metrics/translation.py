"""How near translated images are to what they should have become; needs test images in pairs.

A translator is free to choose among many right answers, so compare such metrics between runs on one data set only.
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
_CHUNK = 64  # pairs compared at a time, which bounds memory


def mean_absolute_error(first: Tensor, second: Tensor) -> float:
    """The mean of |difference| over all pairs, channels and pixels, as a share of the range from black to white.

    Takes two float tensors (N, C, H, W) in [-1, 1]; returns 0 (identical) to 1 (black against white).

    Raises:
        ValueError: the shapes differ or there is no image.
    """
    _check(first, second)
    return (first - second).abs().mean(dtype=torch.float64).item() / 2


def ms_ssim(first: Tensor, second: Tensor) -> float:
    """The mean over pairs of the multi-scale structural similarity; 1 is identical, larger is better.

    Takes two float tensors (N, C, H, W) in [-1, 1]. They are compared as intensities 0..1, for the measure has no
    meaning for negative ones, with a Gaussian window of 11 pixels and sigma 1.5. Each scale halves the image. Of the
    five standard scales there are as many as `scale_weights` gives, so metrics of different image sizes are not to be
    compared.

    Raises:
        ValueError: the shapes differ, there is no image, or a side is shorter than 22 pixels.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure  # takes seconds to import

    _check(first, second)
    weights = scale_weights(min(first.shape[-2:]))
    total = 0.0
    for one, other in zip(torch.split(first, _CHUNK), torch.split(second, _CHUNK), strict=True):
        similarities = multiscale_structural_similarity_index_measure(
            (one.float() + 1) / 2,
            (other.float() + 1) / 2,
            kernel_size=WINDOW_PIXELS,
            sigma=WINDOW_SIGMA_PIXELS,
            data_range=1.0,
            betas=weights,
            reduction="none",
        )
        total += similarities.sum(dtype=torch.float64).item()
    return total / len(first)


def scale_weights(size: int) -> tuple[float, ...]:
    """The exponents of the scales that images with a shortest side of `size` pixels allow, finest first; sum 1.

    All five from 176 pixels on, 4 from 99, 3 from 44, 2 from 22: the coarsest image must hold the window, and
    torchmetrics asks for a little more. Fewer than five are the first ones, renormalised.

    Raises:
        ValueError: not even two scales fit.
    """
    for count in range(len(SCALE_WEIGHTS), 1, -1):
        needed = WINDOW_PIXELS * max(2 ** (count - 1), (count - 1) ** 2)
        if size >= needed:
            chosen = SCALE_WEIGHTS[:count]
            return tuple(weight / sum(chosen) for weight in chosen)
    raise ValueError(f"images of {size} pixels are too small to compare at two scales; {SMALLEST_IMAGE_PIXELS} will do")


def _check(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim != 4 or not len(first):
        raise ValueError(f"pairs of images (N, C, H, W) wanted, not {tuple(first.shape)} and {tuple(second.shape)}")
