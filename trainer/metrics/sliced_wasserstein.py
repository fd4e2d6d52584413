"""Sliced Wasserstein distance between two sets of images.

Karras et al. 2018, "Progressive Growing of GANs for Improved Quality, Stability, and Variation", section 5, with the
numbers of its published code: 128 patches of 7x7 pixels per image and level of a Laplacian pyramid (Burt & Adelson
1983, the binomial kernel 1, 4, 6, 4, 1) down to 16 pixels, each set's channels normalised to mean 0 and deviation 1,
512 random directions, times 1000.

As there, a gray image counts as three equal channels; one channel would change the metric by about half a per cent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from trainer.metrics.standard_errors import half_sample_errors, used_share

PATCH_PIXELS = 7
PATCHES_PER_IMAGE = 128
ERROR_PATCHES = 32  # of an image, for the standard error
ERROR_DIRECTIONS = 32  # for the standard error
DIRECTIONS = 4 * 128
SMALLEST_LEVEL_PIXELS = 16
SCALE = 1000.0  # the usual unit

# Padding at the image border, and upsampling of a level: mirrored pixels and interleaved zeros, as in the paper's code;
# or gray and repeated pixels, as in MMGeneration and its published values.
Pyramid = Literal["pggan", "mmgeneration"]

_CHUNK_PIXELS = 1 << 20  # pyramids in memory at once
_KEPT_BYTES = 3 << 29  # of one set's patches; larger sets are cut again for each group of directions
_PROJECTED_BYTES = 1 << 27  # of one set's patches along a group of directions
_KERNEL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def sliced_wasserstein_distance(
    reals: Tensor, fakes: Tensor, seed: int = 0, *, pyramid: Pyramid = "pggan"
) -> list[float]:
    """The distance at each pyramid level, finest first, times 1000; smaller is better.

    The patches and directions depend only on `seed`, so the same images give the same metric; torch's global random
    state stays unchanged. 16,384 gray images of 64x64 take about 2 GB.

    Args:
        reals: (N, C, H, W), uint8, or float in [-1, 1].
        fakes: the same shape.
        seed: of the patches and directions.
        pyramid: the kind; do not compare metrics of the two kinds.

    Raises:
        ValueError: the shapes differ, or there are no images.
    """
    return [SCALE * _distance(*sets, seed) for sets in _patches_of_levels(reals, fakes, seed, pyramid)]


def distances_and_error(
    reals: Tensor, fakes: Tensor, seed: int = 0, *, pyramid: Pyramid = "pggan"
) -> tuple[list[float], float]:
    """`sliced_wasserstein_distance`, and the standard error of its mean over levels; NaN with too few images.

    The error is computed from `ERROR_DIRECTIONS` of the directions, which are sorted again for each half of the images.
    """
    levels, rows = [], []
    for sets in _patches_of_levels(reals, fakes, seed, pyramid):
        levels.append(SCALE * _distance(*sets, seed))
        rows.append([_Projected(patches, seed) for patches in sets])

    def mean_of_levels(real: Tensor, fake: Tensor) -> list[float]:
        distances = [
            float((one.sorted_rows(real) - other.sorted_rows(fake)).abs().mean(dtype=torch.float64))
            for one, other in rows
        ]
        return [SCALE * sum(distances) / len(distances)]

    (error,) = half_sample_errors(mean_of_levels, len(reals), len(fakes), seed) or [math.nan]
    return levels, error


def _patches_of_levels(
    reals: Tensor, fakes: Tensor, seed: int, pyramid: Pyramid
) -> Iterator[tuple[_Patches, _Patches]]:
    if reals.shape != fakes.shape or reals.ndim != 4 or not len(reals):
        raise ValueError(f"expected equal shapes (N, C, H, W), got {tuple(reals.shape)} and {tuple(fakes.shape)}")
    generator = np.random.Generator(np.random.PCG64(seed))
    for level in range(level_count(min(reals.shape[-2:]))):
        yield _Patches(reals, level, pyramid, generator), _Patches(fakes, level, pyramid, generator)


def level_count(size: int) -> int:
    """The number of pyramid levels for a shortest side of `size` pixels; at least 1."""
    levels = 1
    while size // 2 >= SMALLEST_LEVEL_PIXELS:
        size //= 2
        levels += 1
    return levels


def laplacian_level(images: Tensor, level: int, pyramid: Pyramid = "pggan") -> Tensor:
    """One level of the Laplacian pyramid of float images (N, C, H, W); 0 is the finest, the last the low-pass rest."""
    last = level_count(min(images.shape[-2:])) - 1
    for _ in range(level):
        images = _halved(images, pyramid)
    return images if level == last else images - _doubled(_halved(images, pyramid), images.shape[-2:], pyramid)


class _Patches:
    """The patches of one level of a set of images, cut out chunk by chunk."""

    def __init__(self, images: Tensor, level: int, pyramid: Pyramid, generator: np.random.Generator) -> None:
        self._images = images
        self._level = level
        self._pyramid: Pyramid = pyramid
        count, self.channels, height, width = images.shape
        height, width = -(-height >> level), -(-width >> level)  # halves are rounded up
        self._size = min(PATCH_PIXELS, height, width)
        self.values = self.channels * self._size**2  # of one patch
        self.images, self.count = count, count * PATCHES_PER_IMAGE
        shape = (count, PATCHES_PER_IMAGE)
        self._tops = torch.from_numpy(generator.integers(height - self._size + 1, size=shape))
        self._lefts = torch.from_numpy(generator.integers(width - self._size + 1, size=shape))
        self._kept: list[Tensor] | None = None
        if self.count * self.values * 4 <= _KEPT_BYTES:
            self._kept = list(self._cut())

    def chunks(self) -> Iterator[Tensor]:
        """The patches in chunks, (n, C * size * size) float32."""
        return iter(self._kept) if self._kept is not None else self._cut()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel over all patches, float64 (C,)."""
        total = square = torch.zeros(self.channels, dtype=torch.float64, device=self._images.device)
        for chunk in self.chunks():
            values = chunk.view(len(chunk), self.channels, -1).double()
            total = total + values.sum((0, 2))
            square = square + values.square().sum((0, 2))
        count = self.count * self.values // self.channels
        mean = total / count
        return mean, (square / count - mean.square()).clamp(min=0).sqrt()

    def projections(self, directions: Tensor, offsets: Tensor) -> Iterator[Tensor]:
        """Groups of rows (directions, patches): each patch along each of the directions (values, D), plus offset.

        Each group overwrites the previous one.
        """
        group = min(directions.shape[1], max(1, _PROJECTED_BYTES // (4 * self.count)))
        memory = torch.empty(group, self.count, device=directions.device)  # reused by every group
        for begin in range(0, directions.shape[1], group):
            wanted = directions[:, begin : begin + group].T.contiguous()
            rows = memory[: len(wanted)]
            done = 0
            for chunk in self.chunks():
                rows[:, done : done + len(chunk)] = wanted @ chunk.T
                done += len(chunk)
            yield rows.add_(offsets[begin : begin + group, None])

    def of_images(self) -> Iterator[Tensor]:
        """Some patches of each image that errors are computed from, (n, P, C, size * size) float32, in chunks."""
        left = int(used_share(self.images) * self.images)
        for chunk in self.chunks():
            patches = chunk.view(-1, PATCHES_PER_IMAGE, self.channels, self._size**2)[:left, :ERROR_PATCHES]
            yield patches
            left -= len(patches)
            if not left:
                return

    def _cut(self) -> Iterator[Tensor]:
        step = max(1, _CHUNK_PIXELS // (self.channels * self._images.shape[-2] * self._images.shape[-1]))
        for begin in range(0, len(self._images), step):
            images = self._images[begin : begin + step]
            images = images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()
            level = laplacian_level(images, self._level, self._pyramid)
            device = level.device
            offsets = torch.arange(self._size, device=device)
            rows = self._tops[begin : begin + step, :, None].to(device) + offsets  # (n, P, size)
            columns = self._lefts[begin : begin + step, :, None].to(device) + offsets
            index = torch.arange(len(level), device=device)[:, None, None, None]
            patches = level.permute(0, 2, 3, 1)[index, rows[..., :, None], columns[..., None, :]]  # (n, P, s, s, C)
            yield patches.permute(0, 1, 4, 2, 3).reshape(-1, self.values)


def _distance(reals: _Patches, fakes: _Patches, seed: int) -> float:
    """The mean over directions of the Wasserstein distance between projections of normalised patches."""
    directions = _directions(reals.channels, reals.values, seed)
    total = 0.0
    groups = zip(_normalised_projections(reals, directions), _normalised_projections(fakes, directions), strict=True)
    for real_rows, fake_rows in groups:
        for row, other in zip(_sorted(real_rows), _sorted(fake_rows), strict=True):
            total += float(abs(row - other).mean(dtype=torch.float64 if isinstance(row, Tensor) else np.float64))
    return total / directions.shape[1]


class _Projected:
    """Patches of a set of images along a few directions, from which those of any of the images follow.

    Each choice of images has its own mean and deviation per channel, so the channels stay apart.
    """

    def __init__(self, patches: _Patches, seed: int) -> None:
        directions = _directions(patches.channels, patches.values, seed)[:, :ERROR_DIRECTIONS].float()
        by_channel = directions.view(patches.channels, -1, directions.shape[1])  # (C, values, D)
        self._sums = by_channel.sum(1)  # (C, D)
        rows, means, squares = [], [], []
        for chunk in patches.of_images():
            rows.append(torch.einsum("npcv,cvd->cdnp", chunk, by_channel.to(chunk.device)).cpu())
            means.append(chunk.double().mean((1, 3)).cpu())
            squares.append(chunk.double().square().mean((1, 3)).cpu())
        self._rows = torch.cat(rows, dim=2)  # (C, D, N, P)
        self._means, self._squares = torch.cat(means), torch.cat(squares)  # (N, C)

    def sorted_rows(self, images: Tensor) -> Tensor:
        """The normalised patches of some images along each direction, sorted, (D, patches)."""
        mean = self._means[images].mean(0)
        deviation = (self._squares[images].mean(0) - mean.square()).clamp(min=0).sqrt() + 1e-8
        total = torch.zeros(len(self._sums[0]), len(images) * self._rows.shape[-1])
        for rows, sums, centre, width in zip(self._rows, self._sums, mean.tolist(), deviation.tolist(), strict=True):
            total += (rows[:, images].flatten(1) - centre * sums[:, None]) / width
        return torch.from_numpy(_sorted(total))


def _directions(channels: int, values: int, seed: int) -> Tensor:
    """Random unit vectors, float64 (values, DIRECTIONS); for gray patches, those of three equal channels."""
    wanted = 3 * values if channels == 1 else values
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    directions = torch.from_numpy(generator.standard_normal((wanted, DIRECTIONS)))
    directions /= directions.norm(dim=0)
    return directions.view(3, values, DIRECTIONS).sum(0) if channels == 1 else directions


def _normalised_projections(patches: _Patches, directions: Tensor) -> Iterator[Tensor]:
    """Projections of patches whose channels have mean 0 and deviation 1, without normalising every patch."""
    mean, deviation = patches.moments()
    by_channel = directions.to(mean.device).view(patches.channels, -1, directions.shape[1])
    by_channel = by_channel / (deviation + 1e-8)[:, None, None]
    offsets = -(by_channel.sum(1) * mean[:, None]).sum(0)
    return patches.projections(by_channel.flatten(0, 1).float(), offsets.float())


def _sorted(rows: Tensor) -> Tensor | NDArray[np.float32]:
    """Sorts each row. On a CPU NumPy sorts many times faster than torch, and here in place."""
    if rows.device.type != "cpu":
        return rows.sort(dim=1).values
    array: NDArray[np.float32] = rows.numpy()
    array.sort(axis=1)
    return array


def _halved(images: Tensor, pyramid: Pyramid) -> Tensor:
    """Blurs and keeps every other row and column, (N, C, ceil(H / 2), ceil(W / 2))."""
    return _blurred(_blurred(images, 2, pyramid)[:, :, ::2], 3, pyramid)[:, :, :, ::2]


def _doubled(images: Tensor, shape: tuple[int, ...] | torch.Size, pyramid: Pyramid) -> Tensor:
    """Upsamples to (N, C, *shape) and blurs."""
    if pyramid == "mmgeneration":
        larger = images.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : shape[0], : shape[1]]
    else:
        larger = images.new_zeros(*images.shape[:2], *shape)
        larger[:, :, ::2, ::2] = 4 * images
    return _blurred(_blurred(larger, 2, pyramid), 3, pyramid)


def _blurred(images: Tensor, axis: int, pyramid: Pyramid) -> Tensor:
    border = (2, 2, 0, 0) if axis == 3 else (0, 0, 2, 2)
    padded = F.pad(images, border, mode="reflect") if pyramid == "pggan" else F.pad(images, border)
    length = images.shape[axis]
    result = _KERNEL[0] * padded.narrow(axis, 0, length)
    for offset, weight in enumerate(_KERNEL[1:], 1):
        result.add_(padded.narrow(axis, offset, length), alpha=weight)
    return result
