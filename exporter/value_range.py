"""Compares the values of a network's images with the range that pixels stand for.

The proof of parity cannot find a wrong range: both files would hold the same pale images as the network.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

_MOST_CLAMPED: Final = 0.1  # share of the values; a network without tanh overshoots in places
_LEAST_USED: Final = 0.1  # share of its range that a network uses even with few rows
_USUAL: Final = ((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0))


def describe_range(images: Tensor, value_min: float, value_max: float, *, declared: bool) -> list[str]:
    """Lines for the user: the range of the values, and a warning if it does not fit.

    Args:
        images: Of random rows, float32 (N, C, H, W), all finite.
        value_min: The value of pixel 0.
        value_max: The value of pixel 255.
        declared: Whether the user can set the range with --value-range.
    """
    low, high = float(images.min()), float(images.max())
    lines = [
        f"images of {len(images)} random rows have values in {low:.3g} .. {high:.3g};"
        f" pixels 0 and 255 stand for {value_min:g} and {value_max:g}"
    ]
    middle, half_a_level = (value_min + value_max) / 2, (value_max - value_min) / 510
    outside = (images < value_min - half_a_level) | (images > value_max + half_a_level)
    clamped = float(outside.float().mean())
    if declared and low >= middle:
        lines.append(
            f"warning: no value is below {middle:g}, so all pixels are in 128 .. 255;"
            f" {_remedy(low, high, value_min, value_max)}"
        )
    elif declared and clamped > _MOST_CLAMPED:
        lines.append(
            f"warning: {clamped:.0%} of the values are outside {value_min:g} .. {value_max:g}, so their pixels are 0 or"
            f" 255; {_remedy(low, high, value_min, value_max)}"
        )
    return lines


def _remedy(low: float, high: float, value_min: float, value_max: float) -> str:
    """Names the narrowest of the usual ranges that holds the values, if it is not the given one."""
    fitting = [
        (first, last)
        for first, last in _USUAL
        if first <= low and high <= last and high - low > _LEAST_USED * (last - first)
    ]
    narrowest = min(fitting, key=lambda usual: usual[1] - usual[0], default=(value_min, value_max))
    if narrowest == (value_min, value_max):
        return "is --value-range right?"
    why = "if the network ends in a sigmoid" if narrowest == (0.0, 1.0) else "if that is the range of its images"
    return f"{why}, add --value-range {narrowest[0]:g} {narrowest[1]:g}"
