"""What the grids of trainer and client have in common: their padding, and labels beside their lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

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
