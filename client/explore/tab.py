"""The state of one browser tab: a few latents, and how the sliders move them. Independent of Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest
from client.explore.directions import Directions
from client.explore.fields import value_from

MAX_DIMENSIONS: Final = 8  # sliders
SLIDER_END: Final = 4.0  # sliders go from -4 to 4; one random coordinate in 16,000 lies outside
SLIDER_STEP: Final = 0.01
MAX_SAMPLES: Final = 144


@dataclass(frozen=True, eq=False)
class Tab:
    """Immutable, so that concurrent events of one tab never see a partial update.

    Attributes:
        key: The model, NAME:VERSION; empty if none is picked.
        seed: The seed of the samples; None if their latents come from a file.
        latents: float32 (samples, latent_dim), the latents of the samples.
        truncation: The factor by which the latents of the seed were multiplied, 0 .. 1.
        anchor: float32 (latent_dim,), the latent of the starting picture, which the sliders start from.
        row: The sample that is the starting picture.
        dimensions: The dimensions of the dimension sliders.
        directions: The directions of the direction sliders, once known.
        ends: float32 (2, latent_dim), the latents A and B of the morph.
    """

    key: str = ""
    seed: int | None = None
    latents: NDArray[np.float32] | None = None
    truncation: float = 1.0
    anchor: NDArray[np.float32] | None = None
    row: int = 0
    dimensions: tuple[int, ...] = ()
    directions: Directions | None = None
    ends: NDArray[np.float32] | None = None


def truncation_from(value: object) -> float:
    """Parses the factor of the latents.

    Raises:
        InvalidRequest: It is not a number in 0 .. 1.
    """
    truncation = value_from("truncation", value)
    if not 0 <= truncation <= 1:
        raise InvalidRequest(f"truncation: must be a number in 0 .. 1, not {truncation:g}")
    return truncation


def moved(tab: Tab, positions: Sequence[Any]) -> NDArray[np.float32]:
    """The anchor, moved by the sliders, float32 (latent_dim,).

    Args:
        tab: Has an anchor.
        positions: Of all dimension sliders, then of all direction sliders; hidden sliders are ignored. A dimension
            slider is the value of that coordinate; a direction slider is the distance along the direction, in standard
            deviations of a random latent.

    Raises:
        InvalidRequest: A position is not a number, or is too large.
    """
    assert tab.anchor is not None
    latent = tab.anchor.astype(np.float64)
    dimensions, directions = moves(tab, positions)  # an unmoved slider keeps the exact value of the anchor
    for dimension, value in dimensions.items():
        latent[dimension] = value
    for number, distance in directions.items():
        assert tab.directions is not None
        latent += distance * tab.directions.vectors[number - 1]
    return latent.astype(np.float32)


def moves(tab: Tab, positions: Sequence[Any]) -> tuple[dict[int, float], dict[int, float]]:
    """The positions of the sliders that were moved: by dimension, and by the number of the direction, from 1.

    Raises:
        InvalidRequest: A position is not a number, or is too large.
    """
    resting = zip(tab.dimensions, slider_values(tab), positions, strict=False)
    values = {dimension: (value_from(f"dimension {dimension}", at), rest) for dimension, rest, at in resting}
    dimensions = {one: value for one, (value, rest) in values.items() if abs(value - rest) > SLIDER_STEP / 2}
    known = 0 if tab.directions is None else len(tab.directions.vectors)
    along = [value_from(f"direction {index + 1}", positions[MAX_DIMENSIONS + index]) for index in range(known)]
    return dimensions, {index + 1: value for index, value in enumerate(along) if value}


def slider_values(tab: Tab) -> list[float]:
    """The positions of the dimension sliders at the anchor, as exactly as a slider can be set."""
    assert tab.anchor is not None
    at = [float(tab.anchor[dimension]) for dimension in tab.dimensions]
    return [round(min(SLIDER_END, max(-SLIDER_END, value)), 2) for value in at]
