from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ganserve.grids import PADDING, labelled_lines


def grid_of(lines: int, line_pixels: int, mode: str) -> Image.Image:
    """Noise of the size of a grid with `lines` lines."""
    size = (PADDING + lines * (line_pixels + PADDING), 46, len(mode))
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    return Image.fromarray(pixels if len(mode) > 1 else pixels[..., 0], mode)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_labels_of_any_mode_stand_in_a_margin_beside_the_grid(mode: str) -> None:
    grid = grid_of(2, 20, mode)
    labelled = labelled_lines(grid, ["first", "the second"])
    assert labelled.mode == grid.mode
    assert labelled.height == grid.height
    margin = labelled.width - grid.width
    np.testing.assert_array_equal(np.asarray(labelled)[:, margin:], np.asarray(grid))
    letters = np.asarray(labelled.convert("L"))[:, :margin] > 128
    assert letters[: grid.height // 2].any()
    assert letters[grid.height // 2 :].sum() > letters[: grid.height // 2].sum()
    assert not letters[:, 0].any()


def test_lines_that_are_too_low_get_no_labels() -> None:
    grid = grid_of(4, 6, "L")
    assert labelled_lines(grid, ["a", "b", "c", "d"]) is grid
