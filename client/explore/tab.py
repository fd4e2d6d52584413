"""What one tab of the browser explores: a few latents, and how the sliders move them. Knows no server, no Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.explore.directions import Directions
from client.explore.fields import value_from

MAX_DIMENSIONS: Final = 8  # sliders
SLIDER_END: Final = 4.0  # sliders go from minus this to this; one drawn coordinate in 16,000 lies beyond
SLIDER_STEP: Final = 0.01


@dataclass(frozen=True, eq=False)
class Tab:
    """Never changed, only replaced: two events of one tab cannot see it half-changed.

    Attributes:
        key: the model, NAME:VERSION; empty before there is one.
        seed: of the samples.
        count: how many samples there are.
        anchor: float32 (latent_dim,): where the sliders start from.
        row: which sample the anchor is.
        dimensions: of the dimension sliders.
        directions: of the direction sliders, once they are known.
        ends: float32 (2, latent_dim): the latents A and B that the morph goes between.
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
    """The anchor as the sliders move it, float32 (latent_dim,).

    Args:
        tab: with an anchor.
        positions: of all dimension sliders, then of all direction sliders; those without a meaning are left out. A
            dimension slider is the value of that coordinate; a direction slider is how far to go along the direction,
            in standard deviations of a random latent.

    Raises:
        InvalidRequest: a position is no number, or too large.
    """
    assert tab.anchor is not None
    latent = tab.anchor.astype(np.float64)
    for dimension, resting, position in zip(tab.dimensions, slider_values(tab), positions, strict=False):
        value = value_from(f"dimension {dimension}", position)
        if abs(value - resting) > SLIDER_STEP / 2:  # else it was not moved, and the anchor has more digits
            latent[dimension] = value
    if tab.directions is not None:
        along = positions[MAX_DIMENSIONS : MAX_DIMENSIONS + len(tab.directions.vectors)]
        for index, (vector, position) in enumerate(zip(tab.directions.vectors, along, strict=True)):
            latent += value_from(f"direction {index + 1}", position) * vector
    return latent.astype(np.float32)


def slider_values(tab: Tab) -> list[float]:
    """Where the dimension sliders stand while nothing is moved: at the anchor, as near as a slider can be set."""
    assert tab.anchor is not None
    at = [float(tab.anchor[dimension]) for dimension in tab.dimensions]
    return [round(min(SLIDER_END, max(-SLIDER_END, value)), 2) for value in at]
