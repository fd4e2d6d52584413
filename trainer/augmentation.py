"""Differentiable augmentation of the images that a discriminator sees, for training on few images.

Source: Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training". Reals and fakes are augmented
alike, in the updates of both networks, so the generator learns the images and not their augmentations. Images are
(N, C, H, W) in [-1, 1], where 0 is mid-gray; every function draws its parameters per image from torch's global random
state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.parallel import own_rows, world_size
from trainer.registry import Registry

_SHIFT: Final = 1 / 8  # of the side of an image
_CUT: Final = 1 / 2
_ENLARGED: Final = 286 / 256

Augmentation = Callable[[Tensor], Tensor]


def change_colour(images: Tensor) -> Tensor:
    """Changes brightness by -0.5 to 0.5, saturation by a factor of 0 to 2, and contrast by a factor of 0.5 to 1.5."""
    images = images + _draw(images, -0.5, 0.5)
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * _draw(images, 0.0, 2.0)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * _draw(images, 0.5, 1.5)


def translate(images: Tensor) -> Tensor:
    """Shifts each image by up to an eighth of its side in both directions; the border becomes mid-gray."""
    count, _, height, width = images.shape
    shifts = (round(height * _SHIFT), round(width * _SHIFT))
    rows, columns = (
        torch.arange(side, device=images.device) + _draw_whole(images, 2 * shift + 1)
        for side, shift in zip((height, width), shifts, strict=True)
    )
    padded = F.pad(images, (shifts[1], shifts[1], shifts[0], shifts[0])).permute(0, 2, 3, 1)
    image = torch.arange(count, device=images.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: Tensor) -> Tensor:
    """Paints half the height times half the width mid-gray, at a random place that may lie partly outside."""
    height, width = images.shape[-2:]
    inside = []
    for side in (height, width):
        size = round(side * _CUT)
        first = _draw_whole(images, side) - size // 2
        position = torch.arange(side, device=images.device)
        inside.append((position >= first) & (position < first + size))
    rows, columns = inside
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


AUGMENTATIONS: Registry[Augmentation] = Registry("augment")
AUGMENTATIONS.add("colour", change_colour)
AUGMENTATIONS.add("translation", translate)
AUGMENTATIONS.add("cutout", cut_out)


def augmented(critic: Augmentation, names: Iterable[str]) -> Augmentation:
    """The critic behind some augmentations; the critic itself if there are none."""
    chosen = [AUGMENTATIONS[name] for name in names]
    if not chosen:
        return critic

    def score(images: Tensor) -> Tensor:
        for augmentation in chosen:
            images = augmentation(images)
        return critic(images)

    return score


def mirrored_at_random(images: Tensor) -> Tensor:
    """Mirrors half of the images from left to right."""
    return torch.where(_draw(images, 0.0, 1.0) < 0.5, images.flip(-1), images)


def jittered_at_random(images: Tensor) -> Tensor:
    """Enlarges images (N, C, H, W) by 286/256 and crops H x W at a random place.

    The jitter of Zhu et al. 2017 ("CycleGAN", published code), with the same bicubic kernel: values stay in [-1, 1].
    """
    sides = images.shape[-2:]
    large = [round(side * _ENLARGED) for side in sides]
    rows, columns = (
        torch.arange(side, device=images.device) + _draw_whole(images, enlarged_side - side + 1)
        for side, enlarged_side in zip(sides, large, strict=True)
    )
    enlarged = F.interpolate(images, size=large, mode="bicubic", antialias=True).clamp(-1, 1)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    cropped = enlarged.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def _draw(images: Tensor, low: float, high: float) -> Tensor:
    """One number per image, (N, 1, 1, 1), uniform between `low` and `high`."""
    numbers = own_rows(torch.rand(len(images) * world_size(), 1, 1, 1, device=images.device, dtype=images.dtype))
    return low + (high - low) * numbers


def _draw_whole(images: Tensor, count: int) -> Tensor:
    """One whole number per image, (N, 1), from 0 to `count` - 1."""
    return own_rows(torch.randint(count, (len(images) * world_size(), 1), device=images.device))
