"""Sliced Wasserstein distance between two sets of images.

Karras et al. 2018, "Progressive Growing of GANs for Improved Quality, Stability, and Variation", section 5.

Small patches are taken from every level of a Laplacian pyramid, so that each level compares structure of one scale.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PATCH_PIXELS = 7
PATCHES_AN_IMAGE = 64
DIRECTIONS = 256
SMALLEST_LEVEL_PIXELS = 16
SCALE = 1000.0  # the customary unit


def sliced_wasserstein_distance(reals: Tensor, fakes: Tensor, seed: int = 0) -> list[float]:
    """The distance at each pyramid level, finest first, times 1000; smaller is better.

    Takes two float tensors (N, C, H, W) of the same shape and range. The patches and directions depend on `seed` alone,
    so the same images give the same figure; torch's global random state is left as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for real_level, fake_level in zip(_laplacian_pyramid(reals), _laplacian_pyramid(fakes), strict=True):
        real_patches = _normalised(_patches(real_level, generator))
        fake_patches = _normalised(_patches(fake_level, generator))
        directions = torch.randn(real_patches.shape[1], DIRECTIONS, generator=generator)
        directions = (directions / directions.norm(dim=0)).to(reals.device)
        real_projections = (real_patches @ directions).sort(dim=0).values
        fake_projections = (fake_patches @ directions).sort(dim=0).values
        distances.append(SCALE * (real_projections - fake_projections).abs().mean().item())
    return distances


def _laplacian_pyramid(images: Tensor) -> list[Tensor]:
    levels = []
    while images.shape[-1] // 2 >= SMALLEST_LEVEL_PIXELS:
        smaller = _blur(images)[:, :, ::2, ::2]
        larger = F.interpolate(smaller, size=images.shape[-2:], mode="bilinear", align_corners=False)
        levels.append(images - larger)
        images = smaller
    return [*levels, images]


def _blur(images: Tensor) -> Tensor:
    binomial = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    kernel = torch.outer(binomial, binomial).expand(images.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=images.shape[1])


def _patches(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random patches, (images * PATCHES_AN_IMAGE, channels, patch pixels)."""
    count, channels, height, width = images.shape
    size = min(PATCH_PIXELS, height, width)
    shape = (count, PATCHES_AN_IMAGE)
    tops = torch.randint(height - size + 1, shape, generator=generator).to(images.device)
    lefts = torch.randint(width - size + 1, shape, generator=generator).to(images.device)
    offsets = torch.arange(size, device=images.device)
    rows = (tops[..., None] + offsets)[..., :, None]  # (N, P, size, 1)
    columns = (lefts[..., None] + offsets)[..., None, :]  # (N, P, 1, size)
    index = torch.arange(count, device=images.device)[:, None, None, None]
    patches = images.permute(0, 2, 3, 1)[index, rows, columns]  # (N, P, size, size, C)
    return patches.permute(0, 1, 4, 2, 3).reshape(count * PATCHES_AN_IMAGE, channels, size * size)


def _normalised(patches: Tensor) -> Tensor:
    """Each channel to mean 0 and deviation 1 over all patches, then flattened to (patches, values)."""
    mean = patches.mean(dim=(0, 2), keepdim=True)
    deviation = patches.std(dim=(0, 2), keepdim=True)
    return ((patches - mean) / (deviation + 1e-8)).flatten(1)
