"""Arranges images in a grid, with optional labels on its lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PADDING: Final = 2  # pixels between images and around them
MIN_LABELLED_PIXELS: Final = 9  # minimum height of a line with a readable label

SAMPLE_SEED: Final = 0  # of the images in the sample of a generator

_MAX_FONT_PIXELS: Final = 14
_FITTING_PICTURE: Final = 1024  # pixels; the longest side of a grid that fits on a screen
_FITTING_IMAGE: Final = 256  # pixels; the longest side up to which an image of a grid is magnified
_LABEL_GAP: Final = 4  # pixels on both sides of a label


def image_grid(images: NDArray[np.uint8], columns: int | None = None, padding: int = PADDING) -> Image.Image:
    """Arranges images row by row, with black pixels between and around them; a single image gets no border.

    Args:
        images: uint8 (rows, height, width, channels), at least one row. Channels: 1 grayscale, 2 grayscale with alpha,
            3 RGB, 4 RGB with alpha.
        columns: Images per line of the grid; default: `grid_columns(rows)`.
        padding: Width of the border in pixels.

    Raises:
        ValueError: An argument has another shape or dtype, or is out of range.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images) or images.shape[3] not in (1, 2, 3, 4):
        raise ValueError(
            f"images must be uint8 (rows, height, width, 1..4 channels), not {images.dtype} {images.shape}"
        )
    rows, height, width, channels = images.shape
    columns = min(grid_columns(rows) if columns is None else columns, rows)
    if columns < 1 or padding < 0:
        raise ValueError(f"columns must be at least 1 and padding at least 0, not {columns} and {padding}")
    if rows == 1:
        return to_pil(images[0])
    lines = math.ceil(rows / columns)
    canvas = np.zeros(
        (padding + lines * (height + padding), padding + columns * (width + padding), channels), dtype=np.uint8
    )
    for index, image in enumerate(images):
        line, column = divmod(index, columns)
        top, left = padding + line * (height + padding), padding + column * (width + padding)
        canvas[top : top + height, left : left + width] = image
    return to_pil(canvas)


def fitting_scale(height: int, width: int, rows: int, columns: int | None = None) -> int:
    """The factor that makes a grid of small images large enough to look at, and not larger than a screen; at least 1.

    Args:
        height: Of an image, in pixels.
        width: Of an image, in pixels.
        rows: The number of images.
        columns: As for `image_grid`.
    """
    columns = min(grid_columns(rows) if columns is None else columns, rows)
    lines = math.ceil(rows / columns)
    room = min((_FITTING_PICTURE - PADDING) // count - PADDING for count in (lines, columns))
    return max(1, min(room, _FITTING_IMAGE) // max(height, width))


def sample_rows(height: int, width: int) -> int:
    """How many images of a generator its sample shows: 16, or 4 large ones; those of seed `SAMPLE_SEED`."""
    return 16 if max(height, width) <= _FITTING_IMAGE else 4


def fitting_grid(images: NDArray[np.uint8]) -> Image.Image:
    """A nearly square grid, magnified by `fitting_scale`; see `image_grid`."""
    rows, height, width, _ = images.shape
    return image_grid(magnified(images, fitting_scale(height, width, rows)))


def magnified(images: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Repeats each pixel of uint8 images (..., height, width, channels) as a square of scale x scale."""
    return images.repeat(scale, axis=-3).repeat(scale, axis=-2)


def grid_columns(rows: int) -> int:
    """The default number of columns for a number of images: ceil(sqrt(rows)), for a nearly square grid."""
    return math.isqrt(rows - 1) + 1


def to_pil(pixels: NDArray[np.uint8]) -> Image.Image:
    """Converts one image, uint8 (height, width, channels), to mode L, LA, RGB or RGBA for 1 to 4 channels."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def labelled_lines(picture: Image.Image, labels: Sequence[str]) -> Image.Image:
    """Adds a black margin on the left of a grid, with a white label for each line.

    Args:
        picture: A grid of `len(labels)` lines.
        labels: At least one.

    Returns:
        The labelled grid, or `picture` itself if its lines are lower than `MIN_LABELLED_PIXELS`.
    """
    line_height = (picture.height - PADDING) / len(labels)
    if line_height < MIN_LABELLED_PIXELS:
        return picture
    font = ImageFont.load_default(min(_MAX_FONT_PIXELS, line_height - 1))
    margin = _LABEL_GAP * 2 + math.ceil(max(font.getlength(label) for label in labels))
    canvas = Image.new(picture.mode, (margin + picture.width, picture.height), "black")
    canvas.paste(picture, (margin, 0))
    draw = ImageDraw.Draw(canvas)
    for line, label in enumerate(labels):
        middle = PADDING / 2 + (line + 0.5) * line_height
        draw.text((margin - _LABEL_GAP, middle), label, fill="white", font=font, anchor="rm")
    return canvas
