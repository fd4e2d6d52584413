from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganserve.grids import PADDING, fitting_scale, grid_columns, image_grid, labelled_lines, magnified


def grid_of(lines: int, line_pixels: int, mode: str) -> Image.Image:
    """Noise of the size of a grid with `lines` lines."""
    size = (PADDING + lines * (line_pixels + PADDING), 46, len(mode))
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    return Image.fromarray(pixels if len(mode) > 1 else pixels[..., 0], mode)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_labels_are_drawn_in_a_margin_for_any_mode(mode: str) -> None:
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


sizes = st.integers(1, 5)


def random_images(rows: int, height: int, width: int, channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(1, 256, (rows, height, width, channels), dtype=np.uint8)


@given(rows=st.integers(2, 40), height=sizes, width=sizes, columns=st.none() | st.integers(1, 50), padding=sizes)
def test_every_image_is_in_its_cell_and_the_rest_is_black(
    rows: int, height: int, width: int, columns: int | None, padding: int
) -> None:
    images = random_images(rows, height, width, 3)
    picture = np.asarray(image_grid(images, columns, padding)).copy()
    side_by_side = min(rows, columns or math.ceil(math.sqrt(rows)))
    assert picture.shape == (
        padding + math.ceil(rows / side_by_side) * (height + padding),
        padding + side_by_side * (width + padding),
        3,
    )
    for index, image in enumerate(images):
        top = padding + index // side_by_side * (height + padding)
        left = padding + index % side_by_side * (width + padding)
        cell = picture[top : top + height, left : left + width]
        np.testing.assert_array_equal(cell, image)
        cell[:] = 0
    assert not picture.any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (2, 8), (7, 3), (9, 3), (10, 1)])
def test_the_layout_matches_torchvision(rows: int, columns: int, channels: int) -> None:
    import torch
    from torchvision.utils import make_grid

    images = random_images(rows, 4, 5, channels)
    expected = make_grid(torch.from_numpy(images).permute(0, 3, 1, 2), nrow=columns).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.asarray(image_grid(images, columns).convert("RGB")), expected)


@given(st.integers(1, 10_000))
def test_default_columns_make_a_square(rows: int) -> None:
    assert grid_columns(rows) == math.ceil(math.sqrt(rows))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
@pytest.mark.parametrize("rows", [1, 2])
def test_channels_decide_the_mode(channels: int, mode: str, rows: int) -> None:
    assert image_grid(random_images(rows, 2, 2, channels)).mode == mode


@pytest.mark.parametrize(
    ("images", "columns"),
    [
        (np.zeros((0, 2, 2, 1), np.uint8), None),
        (np.zeros((2, 2, 1), np.uint8), None),
        (np.zeros((1, 2, 2, 5), np.uint8), None),
        (np.zeros((1, 2, 2, 3), np.float32), None),
        (np.zeros((1, 2, 2, 3), np.uint8), 0),
    ],
)
def test_invalid_pixels_are_refused(
    images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], columns: int | None
) -> None:
    with pytest.raises(ValueError, match="must be"):
        image_grid(images, columns)


def test_each_pixel_becomes_a_square() -> None:
    images = np.array([[[[1], [2]]]], np.uint8)
    assert magnified(images, 2)[..., 0].tolist() == [[[1, 1, 2, 2], [1, 1, 2, 2]]]


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns", "scale"),
    [
        (28, 28, 64, None, 4),
        (32, 32, 64, None, 3),
        (32, 32, 1, None, 8),
        (64, 64, 64, None, 1),
        (64, 64, 16, None, 3),
        (256, 256, 9, None, 1),
        (32, 32, 12, 1, 2),  # one column of twelve
        (32, 32, 2, 64, 8),
        (1024, 1024, 10_000, None, 1),
    ],
)
def test_small_images_are_magnified_as_far_as_their_grid_fits_on_a_screen(
    height: int, width: int, rows: int, columns: int | None, scale: int
) -> None:
    assert fitting_scale(height, width, rows, columns) == scale
    if scale > 1:
        images = np.zeros((rows, height * scale, width * scale, 1), np.uint8)
        assert max(image_grid(images, columns).size) <= 1024
