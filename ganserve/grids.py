"""What the grids of trainer and client have in common: their padding, and labels beside their lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PADDING: Final = 2  # pixels between images, and around them
MIN_LABELLED_PIXELS: Final = 9  # the least height of a line whose label can be read

_MAX_FONT_PIXELS: Final = 14
_LABEL_GAP: Final = 4  # pixels on both sides of a label


def labelled_lines(picture: Image.Image, labels: Sequence[str]) -> Image.Image:
    """A grid with a black margin on its left, and in it a label for each of its lines, in white.

    Args:
        picture: a grid of `len(labels)` lines.
        labels: at least one.

    Returns:
        The grid as it was if its lines are too low for letters, below `MIN_LABELLED_PIXELS`.
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


def grid_columns(rows: int) -> int:
    """The default number of columns for so many images: a square, or a little wider than high."""
    return math.isqrt(rows - 1) + 1


def image_grid(images: NDArray[np.uint8], columns: int | None = None, padding: int = PADDING) -> Image.Image:
    """Lays images out row by row, with black pixels between and around them.

    Args:
        images: uint8 (rows, height, width, channels), with at least one row; 1 channel is grayscale, 3 are RGB, and 2
            and 4 have alpha besides.
        columns: How many images stand side by side; None: ceil(sqrt(rows)).
        padding: In pixels.

    Raises:
        ValueError: an argument has another shape, or is out of range.
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


def to_pil(pixels: NDArray[np.uint8]) -> Image.Image:
    """One image of uint8 (height, width, channels): 1 channel is grayscale, 3 are RGB, 2 and 4 have alpha besides."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
