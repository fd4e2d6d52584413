"""The sliders for dimensions and directions, which appear and disappear with the model.

Their events skip Gradio's preprocessing, which rejects values typed beyond the ends of a slider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from client.explore.directions import MAX_DIRECTIONS, Directions
from client.explore.tab import MAX_DIMENSIONS, SLIDER_END, SLIDER_STEP, Tab, slider_values


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


def at_rest(tab: Tab) -> list[Any]:
    """Updates of all sliders, dimensions first, that set them to the anchor of `tab`."""
    dimensions: list[Any] = [
        gr.update(label=f"dimension {dimension}", value=value, visible=True)
        for dimension, value in zip(tab.dimensions, slider_values(tab), strict=True)
    ]
    dimensions += [gr.update(visible=False)] * (MAX_DIMENSIONS - len(dimensions))
    return dimensions + directions_at_rest(tab.directions)


def directions_at_rest(directions: Directions | None) -> list[Any]:
    """Updates of the direction sliders that set them to 0."""
    shares: Sequence[float] = () if directions is None else directions.shares
    updates: list[Any] = [
        gr.update(label=f"direction {index + 1} ({share:.1%})", value=0, visible=True)
        for index, share in enumerate(shares)
    ]
    return updates + [gr.update(visible=False, value=0)] * (MAX_DIRECTIONS - len(updates))


def all_hidden() -> list[Any]:
    """Updates that hide all sliders, dimensions first."""
    return [gr.update(visible=False)] * (MAX_DIMENSIONS + MAX_DIRECTIONS)
