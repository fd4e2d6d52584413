"""Paths through latent space: between latents, and along single dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.errors import InvalidRequest
from ganserve.traversal import sheet_latents

Method = Literal["spherical", "linear"]

_SMALLEST_ANGLE: Final = 1e-6  # radians; smaller angles are rounding errors of float32 latents
_MAX_BYTES: Final = 1 << 30  # of the result of one call; catches typos


def spherical(start: ArrayLike, end: ArrayLike, fractions: Sequence[float] | ArrayLike) -> NDArray[np.float32]:
    """Points on the great arc from `start` to `end`, which preserves the typical length of Gaussian latents.

    The formula is that of White, "Sampling Generative Networks" (2016, arXiv:1609.04468, section 2.1): with the angle
    w between the two, sin((1-t) w) / sin(w) * start + sin(t w) / sin(w) * end. Where it is undefined or unstable:

    - Nearly parallel vectors, and a zero vector, which has no angle: the straight line.
    - Opposite vectors: half a turn through a fixed perpendicular direction, with a length that changes linearly. In a
      single dimension, which has no such direction: the straight line.
    - More than a right angle between vectors of different lengths: lengths are clipped to those of the two vectors.

    Args:
        start: (dim,), at fraction 0.
        end: (dim,), at fraction 1.
        fractions: (points,), each in 0 .. 1.

    Returns:
        float32 (points, dim); the two ends are exact.

    Raises:
        InvalidRequest: An argument has the wrong shape or is out of range.
    """
    first, last, at = _checked(start, end, fractions)
    first_length, last_length = np.linalg.norm(first), np.linalg.norm(last)
    if not first_length or not last_length:
        return _line(first, last, at)
    from_direction, to_direction = first / first_length, last / last_length
    # Kahan's formula for the angle is accurate near 0 and pi, unlike the arc cosine of a product.
    gap, opening = np.linalg.norm(from_direction - to_direction), np.linalg.norm(from_direction + to_direction)
    angle = 2 * np.arctan2(gap, opening)
    if angle < _SMALLEST_ANGLE or (opening < _SMALLEST_ANGLE and len(first) == 1):
        return _line(first, last, at)
    if opening < _SMALLEST_ANGLE:
        lengths = (1 - at) * first_length + at * last_length
        turn = np.cos(np.pi * at) * from_direction + np.sin(np.pi * at) * _across(from_direction)
        return _with_exact_ends(lengths * turn, first, last, at)
    points = (np.sin((1 - at) * angle) * first + np.sin(at * angle) * last) / np.sin(angle)
    made = np.linalg.norm(points, axis=1, keepdims=True)
    wanted = np.clip(made, min(first_length, last_length), max(first_length, last_length))
    # `made` is never 0: only opposite vectors, handled above, pass through it.
    return _with_exact_ends(points * (wanted / made), first, last, at)


def linear(start: ArrayLike, end: ArrayLike, fractions: Sequence[float] | ArrayLike) -> NDArray[np.float32]:
    """Points on the straight line from `start` to `end`; arguments, result and errors are those of `spherical`."""
    return _line(*_checked(start, end, fractions))


def walk(anchors: ArrayLike, steps: int, method: Method = "spherical", *, loop: bool = False) -> NDArray[np.float32]:
    """A path from anchor to anchor, in legs of `steps` points including both ends; no anchor is repeated.

    Args:
        anchors: (anchors, dim), at least two.
        steps: At least 2.
        method: Of each leg.
        loop: Whether a last leg leads back to the first anchor, which is not repeated at the end.

    Returns:
        float32 (points, dim): (anchors - 1) * (steps - 1) + 1 points, or anchors * (steps - 1) with `loop`.

    Raises:
        InvalidRequest: An argument has the wrong shape or is out of range.
    """
    if method not in ("spherical", "linear"):
        raise InvalidRequest(f"method: must be 'spherical' or 'linear', not {method!r:.60}")
    if steps < 2:
        raise InvalidRequest(f"steps: must be at least 2, because both ends of a leg count, not {steps}")
    points = _finite("anchors", anchors, 2)
    if len(points) < 2:
        raise InvalidRequest(f"anchors: must be at least 2 to walk between, not {len(points)}")
    count = len(points) * (steps - 1) if loop else (len(points) - 1) * (steps - 1) + 1
    _check_size("anchors and steps", count, points.shape[1])
    between = spherical if method == "spherical" else linear
    stops = [*points, points[0]] if loop else list(points)
    fractions = np.arange(steps - 1) / (steps - 1)
    legs = [between(start, end, fractions) for start, end in pairwise(stops)]
    last = [] if loop else [points[-1:].astype(np.float32)]
    return np.concatenate(legs + last)


def traversal(latents: ArrayLike, dimensions: Sequence[int], values: Sequence[float]) -> NDArray[np.float32]:
    """All `latents` once for each of `dimensions` and `values`, with that coordinate set to that value.

    Args:
        latents: (rows, dim).
        dimensions: Each in 0 .. dim - 1.
        values: The values to set each of these coordinates to.

    Returns:
        float32 (len(dimensions) * len(values) * rows, dim), in the order of a sheet with one line per dimension and
        value, and one column per latent.

    Raises:
        InvalidRequest: An argument has the wrong shape or is out of range.
    """
    rows = _finite("latents", latents, 2)
    settings = _finite("values", values, 1)
    if not len(rows) or not len(dimensions) or not len(settings):
        raise InvalidRequest("latents, dimensions and values: give at least one of each")
    if any(isinstance(dimension, bool) or not isinstance(dimension, int | np.integer) for dimension in dimensions):
        raise InvalidRequest("dimensions: must be whole numbers, counted from 0")
    outside = [dimension for dimension in dimensions if not 0 <= dimension < rows.shape[1]]
    if outside:
        raise InvalidRequest(f"dimensions: {outside[0]} is not a dimension of these latents, 0 .. {rows.shape[1] - 1}")
    _check_size("latents, dimensions and values", len(dimensions) * len(settings) * len(rows), rows.shape[1])
    return sheet_latents(rows, dimensions, settings)


def _checked(
    start: ArrayLike, end: ArrayLike, fractions: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The two ends, (dim,), and the fractions as a column, (points, 1)."""
    first, last, at = _finite("start", start, 1), _finite("end", end, 1), _finite("fractions", fractions, 1)
    if first.shape != last.shape or not len(first):
        raise InvalidRequest(f"start and end: must have the same size, not {len(first)} and {len(last)}")
    if ((at < 0) | (at > 1)).any():
        raise InvalidRequest("fractions: must be in 0 .. 1")
    _check_size("fractions", len(at), len(first))
    return first, last, at[:, np.newaxis]


def _finite(name: str, values: ArrayLike, dimensions: int) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"{name}: must be numbers in rows of the same size") from error
    if array.ndim != dimensions:
        raise InvalidRequest(f"{name}: must have {dimensions} dimension(s), not the shape {array.shape!s:.80}")
    if not (np.abs(array) <= np.finfo(np.float32).max).all():  # also false for NaN
        raise InvalidRequest(f"{name}: must be finite as float32; some are NaN or too large")
    return array


def _check_size(name: str, rows: int, dim: int) -> None:
    if rows * dim > _MAX_BYTES // 8:  # they are computed as float64
        raise InvalidRequest(f"{name}: {rows} latents of {dim} numbers are too many for one call; give fewer")


def _line(first: NDArray[np.float64], last: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float32]:
    return _with_exact_ends((1 - at) * first + at * last, first, last, at)


def _with_exact_ends(
    points: NDArray[np.float64], first: NDArray[np.float64], last: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float32]:
    points = np.where(at == 0, first, points)
    return np.where(at == 1, last, points).astype(np.float32)


def _across(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """A unit vector perpendicular to `direction`: the axis least aligned with it, orthogonalized."""
    axis = np.zeros_like(direction)
    axis[np.argmin(np.abs(direction))] = 1
    across = axis - (axis @ direction) * direction
    normal: NDArray[np.float64] = across / np.linalg.norm(across)
    return normal
