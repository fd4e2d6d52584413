"""Sharpness and stripes from pixels and spectra: pure functions of arrays.

Images are (N, C, H, W) in [-1, 1]; channels are averaged to gray. Frequencies are in cycles per pixel, so 1/2 is the
finest possible pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

from benchmarks.claims.statistics import Floats

HIGH_FREQUENCY = 0.25  # cycles per pixel and above: details smaller than four pixels
_WEDGE_DEGREES = 10.0  # directions this close to a diagonal count as diagonal
_STRIDES = (0.25, 0.5)  # frequencies at which transposed convolutions of stride 2 and 4 repeat
# Power per pixel that rounding to 8 bits adds at every frequency: steps of 2/255, uniform error.
_ROUNDING_POWER = (2 / 255) ** 2 / 12


@dataclass(frozen=True)
class Stripes:
    """The excess of regular patterns in fakes over reals, in decibels above the surrounding spectrum."""

    diagonal_db: float  # peaks within 10 degrees of a diagonal, the stronger of the two, over those elsewhere
    stride_db: float  # the points off the axes whose frequencies are 1/4 and 1/2, over the bins around them


def laplacian_variance(images: NDArray[np.float32]) -> Floats:
    """Variance over the pixels of each image's 4-neighbour Laplacian, (N,): the usual measure of focus.

    Source: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy: a comparative study".
    """
    gray = _gray(images)
    inner = gray[:, 1:-1, 1:-1]
    sides = gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1] + gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:]
    variances: Floats = (sides - 4 * inner).var((1, 2))
    return variances


def high_frequency_share(images: NDArray[np.float32]) -> float:
    """Share of the power, without the mean brightness, at frequencies of 1/4 cycle per pixel and above (radially)."""
    power = _power(images).mean(0)
    _, _, radius = _frequencies(power.shape)
    power[radius == 0] = 0.0
    total = power.sum()
    return float(power[radius >= HIGH_FREQUENCY - 1e-9].sum() / total) if total > 0 else 0.0


def log_spectrum(images: NDArray[np.float32]) -> Floats:
    """Mean over images of the log of their power spectrum, in decibels, (H, W); zero frequency first.

    The power of rounding to 8 bits is added, so that empty frequencies have a finite level.
    """
    power = _power(images) + _ROUNDING_POWER * images.shape[-1] * images.shape[-2]
    level: Floats = 10 * np.log10(power).mean(0)
    return level


def stripes(fakes: NDArray[np.float32], reals: NDArray[np.float32]) -> Stripes:
    """Regular patterns of fakes that reals do not have."""
    return stripes_of(log_spectrum(fakes) - log_spectrum(reals))


def stripes_of(excess_db: Floats) -> Stripes:
    """`stripes` of a difference of two log spectra (H, W), zero frequency first.

    Each bin is compared with all others off the axes at the same radius, so that blur or noise that is equal in all
    directions does not count as stripes.
    """
    across, down, radius = _frequencies(excess_db.shape)
    off_axis = (np.abs(across) > 0.04) & (np.abs(down) > 0.04) & (radius > 0.1) & (radius <= 0.71)
    rings = np.round(radius * max(excess_db.shape)).astype(int)
    weights = off_axis.astype(float)
    count = np.bincount(rings.ravel(), weights.ravel())
    level = np.bincount(rings.ravel(), (weights * excess_db).ravel()) / np.maximum(count, 1)
    flat = excess_db - level[rings]
    angle = np.degrees(np.arctan2(down, across)) % 180
    wedges = [np.abs(angle - middle) <= _WEDGE_DEGREES for middle in (45, 135)]
    elsewhere = _peak(flat[off_axis & ~wedges[0] & ~wedges[1]])
    diagonal = max(_peak(flat[off_axis & wedge]) for wedge in wedges) - elsewhere
    return Stripes(diagonal, _stride_peaks(excess_db))


def _peak(levels: Floats) -> float:
    """Mean of the largest tenth: stripes are sharp in frequency, so they fill few bins of their direction."""
    return float(np.sort(levels)[-max(1, len(levels) // 10) :].mean())


def _stride_peaks(excess_db: Floats) -> float:
    """Mean height of the points at stride frequencies off the axes over the median of the 5x5 bins around each."""
    around = np.ones((5, 5), dtype=bool)
    around[1:4, 1:4] = False
    surroundings = ndimage.median_filter(excess_db, footprint=around, mode="wrap")
    rows = [round(stride * excess_db.shape[0]) for stride in _STRIDES]
    columns = [round(stride * excess_db.shape[1]) for stride in _STRIDES]
    heights = [
        (excess_db - surroundings)[sign * row % excess_db.shape[0], column]
        for row in rows
        for column in columns
        for sign in (1, -1)
    ]
    return float(np.mean(heights))


def _gray(images: NDArray[np.float32]) -> Floats:
    gray: Floats = images.astype(np.float64).mean(1)
    return gray


def _power(images: NDArray[np.float32]) -> Floats:
    gray = _gray(images)
    power: Floats = np.abs(np.fft.fft2(gray - gray.mean((1, 2), keepdims=True))) ** 2
    return power


def _frequencies(shape: tuple[int, ...]) -> tuple[Floats, Floats, Floats]:
    """Across, down and radial frequency of every bin, (H, W) each."""
    down, across = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), indexing="ij")
    return across, down, np.hypot(across, down)
