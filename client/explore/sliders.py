"""The sliders for dimensions and directions, which appear and disappear with the model.

Their events skip Gradio's preprocessing, which rejects values typed beyond the ends of a slider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import gradio as gr

from client.explore.directions import MAX_DIRECTIONS, Directions
from client.explore.tab import MAX_DIMENSIONS, SLIDER_END, SLIDER_STEP, Tab, slider_values

_UNMOVED: Final[Mapping[int, float]] = MappingProxyType({})


def latent_sliders(name: str, count: int) -> list[gr.Slider]:
    """Hidden sliders."""
    return [
        gr.Slider(
            -SLIDER_END,
            SLIDER_END,
            0,
            step=SLIDER_STEP,
            label=f"{name} {index + 1}",
            visible=False,
            buttons=[],
            elem_id=f"{name}-{index + 1}",
            min_width=120,
        )
        for index in range(count)
    ]


def positions_of(
    tab: Tab, dimensions: Mapping[int, float] = _UNMOVED, directions: Mapping[int, float] = _UNMOVED
) -> tuple[float, ...]:
    """The positions of all sliders, dimensions first; hidden ones are at 0.

    Args:
        tab: Has an anchor.
        dimensions: Positions of moved sliders, by dimension.
        directions: Positions of moved sliders, by the number of the direction, from 1.
    """
    at = [dimensions.get(one, rest) for one, rest in zip(tab.dimensions, slider_values(tab), strict=True)]
    at += [0.0] * (MAX_DIMENSIONS - len(at))
    return *at, *(directions.get(index + 1, 0.0) for index in range(MAX_DIRECTIONS))


def at_rest(tab: Tab, positions: Sequence[float]) -> list[Any]:
    """Updates of all sliders, dimensions first, that show those of `tab` at positions."""
    dimensions: list[Any] = [
        gr.update(label=f"dimension {dimension}", value=value, visible=True)
        for dimension, value in zip(tab.dimensions, positions, strict=False)
    ]
    dimensions += [gr.update(visible=False)] * (MAX_DIMENSIONS - len(dimensions))
    return dimensions + directions_at_rest(tab.directions, positions[MAX_DIMENSIONS:])


def directions_at_rest(
    directions: Directions | None, positions: Sequence[float] = (0.0,) * MAX_DIRECTIONS
) -> list[Any]:
    """Updates of the direction sliders that set them to positions, or to 0."""
    shares: Sequence[float] = () if directions is None else directions.shares
    updates: list[Any] = [
        gr.update(label=f"direction {index + 1} ({share:.1%})", value=position, visible=True)
        for index, (share, position) in enumerate(zip(shares, positions, strict=False))
    ]
    return updates + [gr.update(visible=False, value=0)] * (MAX_DIRECTIONS - len(updates))


def all_hidden() -> list[Any]:
    """Updates that hide all sliders, dimensions first."""
    return [gr.update(visible=False)] * (MAX_DIMENSIONS + MAX_DIRECTIONS)
