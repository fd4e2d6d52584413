"""Diversity of samples: multi-scale structural similarity between pairs of them.

Odena et al. 2017, "Conditional Image Synthesis with Auxiliary Classifier GANs", section 4.2: samples that are too
similar show a collapsed generator. The metric is from Wang et al. 2003, "Multi-scale structural similarity for image
quality assessment", with the window of Karras et al. 2018's published code: 11 pixels, or the image size at a coarse
scale, with sigma in proportion. So five scales fit from 16 pixels on; torchmetrics, with a fixed window, needs 176.
Compare with pairs of real images: more similar means collapse, less similar means noise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.metrics.translation import SCALE_WEIGHTS, WINDOW_PIXELS, WINDOW_SIGMA_PIXELS

_K1, _K2 = 0.01, 0.03  # stabilise quotients in dark or flat regions: Wang et al. 2004, "Image quality assessment"
_CHUNK_PIXELS = 1 << 18  # per chunk, which bounds memory


def ms_ssim_between(images: Tensor) -> float:
    """The mean MS-SSIM of the first and the second image, the third and the fourth, and so on; 1: all are equal.

    The images must be in random order. A last image without a partner is ignored.

    Args:
        images: (N, C, H, W), uint8, or float in [-1, 1]; N at least 2.

    Raises:
        ValueError: fewer than two images.
    """
    pairs = len(images) // 2
    if images.ndim != 4 or pairs < 1:
        raise ValueError(f"expected at least two images (N, C, H, W), got {tuple(images.shape)}")
    step = max(1, _CHUNK_PIXELS // images[0].numel())
    total = 0.0
    for begin in range(0, pairs, step):
        chunk = images[2 * begin : 2 * min(pairs, begin + step)]
        chunk = chunk.float() if images.dtype == torch.uint8 else (chunk.float() + 1) * 127.5
        total += multiscale_similarity(chunk[0::2], chunk[1::2]).sum(dtype=torch.float64).item()
    return total / pairs


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
