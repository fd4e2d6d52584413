from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import InvalidRequest
from client.explore.directions import Directions
from client.explore.tab import MAX_DIMENSIONS, SLIDER_END, Tab, moved, moves, slider_values, truncation_from

ANCHOR = np.array([0.123456, -1.5, 5.25, 0.5], np.float32)
ALONG = Directions(np.array([[0, 0.6, 0, 0.8]], np.float32), (1.0,), 1.0)


def positions(*dimensions: float, directions: tuple[float, ...] = (0.0,) * 6) -> list[float]:
    """The positions of all sliders; hidden ones are at 0."""
    return [*dimensions, *[0.0] * (MAX_DIMENSIONS - len(dimensions)), *directions]


@given(st.permutations(range(4)), st.integers(0, 4))
def test_unmoved_sliders_leave_the_anchor_unchanged(order: list[int], count: int) -> None:
    tab = Tab("m:1", anchor=ANCHOR, dimensions=tuple(order[:count]), directions=ALONG)
    np.testing.assert_array_equal(moved(tab, positions(*slider_values(tab))), ANCHOR)


def test_a_dimension_slider_sets_only_its_coordinate() -> None:
    tab = Tab("m:1", anchor=ANCHOR, dimensions=(3, 0))
    np.testing.assert_array_equal(moved(tab, positions(-2.0, 0.12)), np.array([0.123456, -1.5, 5.25, -2], np.float32))


def test_a_direction_slider_moves_along_its_direction() -> None:
    tab = Tab("m:1", anchor=ANCHOR, directions=ALONG)
    latent = moved(tab, positions(directions=(2.0, 9, 9, 9, 9, 9)))
    np.testing.assert_allclose(latent, ANCHOR + np.array([0, 1.2, 0, 1.6], np.float32), rtol=1e-6)


def test_a_slider_stops_at_its_end_if_the_anchor_is_beyond_it() -> None:
    assert slider_values(Tab("m:1", anchor=ANCHOR, dimensions=(2, 0))) == [SLIDER_END, 0.12]


def test_a_position_that_is_not_a_number_is_refused_with_the_sliders_name() -> None:
    tab = Tab("m:1", anchor=ANCHOR, dimensions=(3,), directions=ALONG)
    with pytest.raises(InvalidRequest, match=r"^dimension 3: must be a number"):
        moved(tab, [None, *positions()[1:]])
    with pytest.raises(InvalidRequest, match=r"^direction 1: must be a number"):
        moved(tab, positions(0.5, directions=(float("nan"), 0, 0, 0, 0, 0)))


def test_moves_name_the_sliders_that_are_not_at_rest() -> None:
    tab = Tab("m:1", anchor=ANCHOR, dimensions=(3, 0), directions=ALONG)
    assert moves(tab, positions(0.5, 2, directions=(1.5, 0, 0, 0, 0, 0))) == ({0: 2}, {1: 1.5})
    assert moves(tab, positions(*slider_values(tab))) == ({}, {})


@pytest.mark.parametrize("value", [-0.1, 1.1, "far", None])
def test_a_truncation_outside_0_to_1_is_refused(value: object) -> None:
    assert truncation_from(0.25) == 0.25
    with pytest.raises(InvalidRequest, match=r"^truncation: must be a number"):
        truncation_from(value)
