from __future__ import annotations

import numpy as np
import pytest

from client.explore.directions import MAX_DIRECTIONS, Directions
from client.explore.tab import MAX_DIMENSIONS, SLIDER_END, Tab
from tests.client.explore.conftest import NO_GRADIO

sliders = pytest.importorskip("client.explore.sliders", reason=NO_GRADIO)

ALONG = Directions(np.eye(2, 4, dtype=np.float32), (0.75, 0.0625), 1.0)
TAB = Tab("m:1", anchor=np.array([0.123456, -1.5, 9, 0], np.float32), dimensions=(2, 0), directions=ALONG)


def test_sliders_are_hidden_until_there_is_a_latent() -> None:
    made = sliders.latent_sliders("direction", 2)
    assert [(slider.elem_id, slider.visible) for slider in made] == [("direction-1", False), ("direction-2", False)]
    assert len(sliders.all_hidden()) == MAX_DIMENSIONS + MAX_DIRECTIONS
    assert not any(update["visible"] for update in sliders.all_hidden())


def test_the_dimensions_of_a_tab_rest_at_its_anchor_and_the_directions_at_0() -> None:
    updates = sliders.at_rest(TAB, sliders.positions_of(TAB))
    assert len(updates) == MAX_DIMENSIONS + MAX_DIRECTIONS
    shown = [(update["label"], update["value"]) for update in updates if update["visible"]]
    assert shown == [
        ("dimension 2", SLIDER_END),  # the anchor lies beyond
        ("dimension 0", 0.12),
        ("direction 1 (75.0%)", 0),
        ("direction 2 (6.2%)", 0),
    ]
    assert [update["visible"] for update in updates][: MAX_DIMENSIONS + 1] == [True] * 2 + [False] * 6 + [True]


def test_moved_sliders_are_at_their_positions() -> None:
    positions = sliders.positions_of(TAB, {0: 2.5}, {2: -1.5})
    assert positions[:3] == (SLIDER_END, 2.5, 0)
    assert positions[MAX_DIMENSIONS : MAX_DIMENSIONS + 3] == (0, -1.5, 0)
    shown = [update["value"] for update in sliders.at_rest(TAB, positions) if update["visible"]]
    assert shown == [SLIDER_END, 2.5, 0, -1.5]


def test_unknown_directions_have_no_sliders() -> None:
    updates = sliders.directions_at_rest(None)
    assert [(update["visible"], update["value"]) for update in updates] == [(False, 0)] * MAX_DIRECTIONS
