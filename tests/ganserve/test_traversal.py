from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ganserve.traversal import line_labels, sheet_latents, spread_dimensions, usual_dimensions


@given(st.integers(1, 600), st.integers(1, 6))
def test_spread_dimensions_are_distinct_and_symmetric(latent_dim: int, count: int) -> None:
    spread = spread_dimensions(latent_dim, count)
    assert len(spread) == min(count, latent_dim)
    assert spread == sorted(set(spread))
    assert spread[0] >= 0
    assert abs(spread[0] - (latent_dim - 1 - spread[-1])) <= 1


@given(st.integers(1, 600))
def test_the_usual_dimensions_are_among_those_of_any_latent(latent_dim: int) -> None:
    dimensions = usual_dimensions(latent_dim)
    assert list(dimensions) == sorted(set(dimensions))
    assert len(dimensions) == min(5, latent_dim)
    assert max(dimensions) < latent_dim
    assert (dimensions == (5, 25, 45, 65, 85)) == (latent_dim > 85)


def test_a_sheet_has_a_line_for_each_dimension_and_value() -> None:
    sheet = sheet_latents([[1, 2], [3, 4]], [1, 0], [-3, 0])
    np.testing.assert_array_equal(sheet, [[1, -3], [3, -3], [1, 0], [3, 0], [-3, 2], [-3, 4], [0, 2], [0, 4]])
    assert sheet.dtype == np.float32
    assert line_labels([1, 0], [-3, 0.5]) == ["dim 1 = -3", "dim 1 = 0.5", "dim 0 = -3", "dim 0 = 0.5"]
