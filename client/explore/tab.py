"""The state of one browser tab: a few latents, and how the sliders move them. Independent of Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.explore.directions import Directions
from client.explore.fields import value_from

MAX_DIMENSIONS: Final = 8  # sliders
SLIDER_END: Final = 4.0  # sliders go from -4 to 4; one random coordinate in 16,000 lies outside
SLIDER_STEP: Final = 0.01


@dataclass(frozen=True, eq=False)
class Tab:
    """Immutable, so that concurrent events of one tab never see a partial update.

    Attributes:
        key: The model, NAME:VERSION; empty if none is picked.
        seed: The seed of the samples.
        count: The number of samples.
        anchor: float32 (latent_dim,), the latent that the sliders start from.
        row: The sample that is the anchor.
        dimensions: The dimensions of the dimension sliders.
        directions: The directions of the direction sliders, once known.
        ends: float32 (2, latent_dim), the latents A and B of the morph.
    """

    key: str = ""
    seed: int = 0
    count: int = 0
    anchor: NDArray[np.float32] | None = None
    row: int = 0
    dimensions: tuple[int, ...] = ()
    directions: Directions | None = None
    ends: NDArray[np.float32] | None = None


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
    for dimension, resting, position in zip(tab.dimensions, slider_values(tab), positions, strict=False):
        value = value_from(f"dimension {dimension}", position)
        if abs(value - resting) > SLIDER_STEP / 2:  # otherwise unmoved: keep the anchor's exact value
            latent[dimension] = value
    if tab.directions is not None:
        along = positions[MAX_DIMENSIONS : MAX_DIMENSIONS + len(tab.directions.vectors)]
        for index, (vector, position) in enumerate(zip(tab.directions.vectors, along, strict=True)):
            latent += value_from(f"direction {index + 1}", position) * vector
    return latent.astype(np.float32)


def slider_values(tab: Tab) -> list[float]:
    """The positions of the dimension sliders at the anchor, as exactly as a slider can be set."""
    assert tab.anchor is not None
    at = [float(tab.anchor[dimension]) for dimension in tab.dimensions]
    return [round(min(SLIDER_END, max(-SLIDER_END, value)), 2) for value in at]
