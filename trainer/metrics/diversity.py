"""Diversity of samples: multi-scale structural similarity between pairs of them.

Odena et al. 2017, "Conditional Image Synthesis with Auxiliary Classifier GANs", section 4.2: samples that are too
similar show a collapsed generator. The metric is from Wang et al. 2003, "Multi-scale structural similarity for image
quality assessment", with the window of Karras et al. 2018's published code: 11 pixels, or the image size at a coarse
scale, with sigma in proportion. So five scales fit from 16 pixels on; torchmetrics, with a fixed window, needs 176.
Compare with pairs of real images: more similar means collapse, less similar means noise.

Each image is compared with several others: one partner per image left a standard deviation of 0.03 to 0.04 over sets
of 240 samples of one generator, 32 partners 0.007 to 0.018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.metrics.translation import SCALE_WEIGHTS, WINDOW_PIXELS, WINDOW_SIGMA_PIXELS

_K1, _K2 = 0.01, 0.03  # stabilise quotients in dark or flat regions: Wang et al. 2004, "Image quality assessment"
_CHUNK_PIXELS = 1 << 18  # per chunk, which bounds memory
MOST_SHIFTS: Final = 16  # more partners hardly narrow the spread
_COMPARED_VALUES: Final = 1 << 23  # pairs times the values of an image, about a second on one core


@dataclass(frozen=True)
class Similarity:
    """The mean over pairs of images, and its standard error over sets of as many images."""

    mean: float
    standard_error: float
    pairs: int


def ms_ssim_between(images: Tensor) -> float:
    """The mean MS-SSIM of pairs of images; 1: all are equal. See `similarity_of_pairs`."""
    return similarity_of_pairs(images).mean


def shift_count(shape: Sequence[int]) -> int:
    """The number of partners to each side of an image, for images of shape (N, C, H, W): at most 16, if small."""
    fitting = _COMPARED_VALUES // math.prod(shape)
    return max(1, min(MOST_SHIFTS, fitting, (shape[0] - 1) // 2))


def similarity_of_pairs(images: Tensor) -> Similarity:
    """The MS-SSIM of each image and the next `shift_count` ones; the first follow the last.

    Pairs that share an image are not independent, so the standard error adds their covariances to the variance of
    independent pairs: Aronow, Samii and Assenova 2015, "Cluster-Robust Variance Estimation for Dyadic Data", section 3.

    Args:
        images: (N, C, H, W) in random order, uint8, or float in [-1, 1]; N at least 2.

    Raises:
        ValueError: fewer than two images.
    """
    if images.ndim != 4 or len(images) < 2:
        raise ValueError(f"expected at least two images (N, C, H, W), got {tuple(images.shape)}")
    count, shifts = len(images), shift_count(images.shape)
    around = torch.cat([images, images[:shifts]])
    similarities = torch.stack(
        [_similarities(images, around[shift : shift + count]) for shift in range(1, shifts + 1)]
    )  # (shifts, N)
    mean = similarities.mean().item()
    deviations = similarities - mean
    independent = deviations.square().sum().item()
    of_image = deviations.sum(0)
    for shift, row in enumerate(deviations, 1):
        of_image = of_image + torch.roll(row, shift)
    # Every pair counts once for each of its two images, so one of the two variances is taken off again.
    with_shared = of_image.square().sum().item() - independent
    pairs = count * shifts
    return Similarity(mean, math.sqrt(max(independent, with_shared)) / pairs, pairs)


def _similarities(first: Tensor, second: Tensor) -> Tensor:
    """The MS-SSIM of each pair of images (N, C, H, W), float64 (N,) on the CPU."""
    step = max(1, _CHUNK_PIXELS // first[0].numel())
    chunks = zip(torch.split(first, step), torch.split(second, step), strict=True)
    return torch.cat([multiscale_similarity(_levels(one), _levels(other)).double().cpu() for one, other in chunks])


def _levels(images: Tensor) -> Tensor:
    """uint8, or float in [-1, 1], -> float 0..255."""
    return images.float() if images.dtype == torch.uint8 else (images.float() + 1) * 127.5


def scale_count(size: int) -> int:
    """The number of scales for a shortest side of `size` pixels: five, or until a side is one pixel."""
    return min(len(SCALE_WEIGHTS), size.bit_length())


def multiscale_similarity(first: Tensor, second: Tensor) -> Tensor:
    """The MS-SSIM of each pair of images (N, C, H, W) with values 0..255, (N,).

    With fewer than five scales, the weights of the first ones are scaled to the sum of all five.
    """
    chosen = SCALE_WEIGHTS[: scale_count(min(first.shape[-2:]))]
    weights = [weight * sum(SCALE_WEIGHTS) / sum(chosen) for weight in chosen]
    result = torch.ones(len(first), device=first.device)
    for index, weight in enumerate(weights):
        similarity, contrast = _similarity(first, second)
        # Negative values have no real power; the published code counts them as 0.
        result = result * (similarity if index == len(weights) - 1 else contrast).clamp(min=0) ** weight
        if index < len(weights) - 1:
            first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    return result


def _similarity(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Structural similarity and its contrast term, (N,) each, over all places where the window fits."""
    size = min(WINDOW_PIXELS, *first.shape[-2:])
    sigma = WINDOW_SIGMA_PIXELS * size / WINDOW_PIXELS
    place = torch.arange(size, device=first.device, dtype=torch.float32) - (size - 1) / 2
    window = torch.exp(-(place**2) / (2 * sigma**2))
    window = window / window.sum()

    def blurred(images: Tensor) -> Tensor:
        planes = images.flatten(0, 1).unsqueeze(1)
        planes = F.conv2d(F.conv2d(planes, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
        return planes.view(*images.shape[:2], *planes.shape[-2:])

    mean_1, mean_2 = blurred(first), blurred(second)
    product, squares = mean_1 * mean_2, mean_1.square() + mean_2.square()
    covariance = blurred(first * second) - product
    variances = blurred(first.square() + second.square()) - squares
    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2
    contrast = (2 * covariance + c2) / (variances + c2)
    similarity = (2 * product + c1) / (squares + c1) * contrast
    return similarity.mean((1, 2, 3)), contrast.mean((1, 2, 3))
