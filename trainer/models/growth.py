"""The schedule of a progressively grown GAN, as pure functions of the number of real images seen.

Owns the phases, their batch sizes, and how real images are scaled and blended in them. Nothing here has state, so a
resumed run needs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.errors import UserError

SMALLEST_RESOLUTION, SMALLEST_FINAL_RESOLUTION, LARGEST_RESOLUTION = 4, 8, 1024  # pixels, height and width


class GrowthConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a GAN grows from its start resolution to the final one (Karras et al. 2018, appendix A.1)."""

    start_resolution: int = SMALLEST_RESOLUTION  # pixels; a power of two
    stabilise_images: Annotated[int, msgspec.Meta(ge=1, le=10**12)]  # real images seen with all stages at full weight
    fade_images: Annotated[int, msgspec.Meta(ge=0, le=10**12)]  # real images seen while a new stage fades in
    # Resolution -> largest batch size; other resolutions use the batch size of the run.
    batch_sizes: dict[int, Annotated[int, msgspec.Meta(ge=2, le=1 << 20)]] = {}
    blend_reals: bool = True  # fade real images in too, so that sharpness does not give them away


@dataclass(frozen=True)
class GrowthState:
    """The position of a run in its growth."""

    resolution: int  # pixels, height and width
    alpha: float  # weight of the newest stage; less than 1 during a fade


def check_growth(growth: GrowthConfig, final_resolution: int) -> None:
    """Checks that the growth reaches the final resolution.

    Raises:
        UserError: it does not; the message names the field.
    """
    sizes = f"a power of two from {SMALLEST_FINAL_RESOLUTION} to {LARGEST_RESOLUTION}"
    if not _is_resolution(final_resolution) or final_resolution < SMALLEST_FINAL_RESOLUTION:
        raise UserError(f"--image-size {final_resolution}: a progressively grown GAN needs {sizes}")
    start = growth.start_resolution
    if not _is_resolution(start) or start > final_resolution:
        raise UserError(
            f"growth.start_resolution {start}: give a power of two from {SMALLEST_RESOLUTION} to the final resolution,"
            f" {final_resolution}"
        )
    for resolution in growth.batch_sizes:
        if not _is_resolution(resolution):
            raise UserError(
                f"growth.batch_sizes: {resolution} is not a resolution; give powers of two from"
                f" {SMALLEST_RESOLUTION} to {LARGEST_RESOLUTION}"
            )


def growth_at(growth: GrowthConfig, final_resolution: int, images_seen: int) -> GrowthState:
    """The position of a run after `images_seen` real images.

    The start resolution only stabilises. Each doubling then fades in, with alpha rising linearly from 0 (images into
    the fade / fade_images), and stabilises. The final resolution lasts until the end of the run.

    Evaluate it once at the start of each batch, which keeps its resolution and alpha even if a phase ends within it.
    In the first batch of a fade, alpha may be 0 and the new stage learns nothing; the next batch has a larger alpha.
    A batch that is larger than a phase may skip it.

    Args:
        growth: checked by `check_growth`.
        final_resolution: pixels.
        images_seen: real images in all batches so far.
    """
    resolution = growth.start_resolution
    images = images_seen - growth.stabilise_images  # into the fade of the next doubling
    while images >= 0 and resolution < final_resolution:
        resolution *= 2
        if images < growth.fade_images:
            return GrowthState(resolution, images / growth.fade_images)
        images -= growth.fade_images + growth.stabilise_images
    return GrowthState(resolution, 1.0)


def batch_size_at(growth: GrowthConfig, final_resolution: int, images_seen: int, batch_size: int) -> int:
    """Real images in the batch that begins after `images_seen`: the run's batch size, or fewer at some resolutions."""
    resolution = growth_at(growth, final_resolution, images_seen).resolution
    return min(batch_size, growth.batch_sizes.get(resolution, batch_size))


def batch_sizes(growth: GrowthConfig, final_resolution: int, batch_size: int) -> list[int]:
    """The batch sizes of a run, as `batch_size_at` returns them, one per resolution."""
    doublings = (final_resolution // growth.start_resolution).bit_length() - 1
    resolutions = [growth.start_resolution << doubling for doubling in range(doublings + 1)]
    return [min(batch_size, growth.batch_sizes.get(resolution, batch_size)) for resolution in resolutions]


def total_images(growth: GrowthConfig, final_resolution: int) -> int:
    """Real images up to the end of the last stabilising phase."""
    doublings = (final_resolution // growth.start_resolution).bit_length() - 1
    return growth.stabilise_images + doublings * (growth.fade_images + growth.stabilise_images)


def pixels_shown(growth: GrowthConfig, final_resolution: int, images_seen: int) -> float:
    """Pixels in the first `images_seen` real images, at the resolutions shown; training time is about proportional."""
    resolution, pixels = growth.start_resolution, 0.0
    length = growth.stabilise_images
    while resolution < final_resolution and images_seen > length:
        pixels += length * resolution**2
        images_seen -= length
        resolution *= 2
        length = growth.fade_images + growth.stabilise_images
    return pixels + images_seen * resolution**2


def downscale(images: Tensor, resolution: int) -> Tensor:
    """Averages boxes of pixels: floating-point images (N, C, S, S) -> (N, C, R, R), where R divides S.

    Images of the height R stay as they are, square or not.

    Raises:
        ValueError: the resolution does not divide S, or the images are not square.
    """
    height, width = images.shape[-2:]
    if height == resolution:
        return images
    if height != width or height % resolution:
        raise ValueError(f"images of {height}x{width} pixels cannot be averaged to {resolution}x{resolution}")
    return F.avg_pool2d(images, height // resolution)


def blend(images: Tensor, alpha: float) -> Tensor:
    """Makes real images (N, C, R, R), R even, as sharp as a fading generator: x * alpha + up(down(x)) * (1 - alpha).

    `down` is the mean of 2x2 pixels, `up` repeats pixels (Karras et al. 2018, figure 2: real images are interpolated
    between two resolutions as the generator's are).
    """
    if alpha == 1:
        return images
    coarse = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="nearest")
    return torch.lerp(coarse, images, alpha)


def _is_resolution(size: int) -> bool:
    return SMALLEST_RESOLUTION <= size <= LARGEST_RESOLUTION and size & (size - 1) == 0
