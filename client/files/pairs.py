"""A picture of images before and after translation, side by side."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from client.errors import InvalidRequest, invalid_response
from client.files.picture_files import MAX_PIXELS
from client.sdk.model_info import ModelInfo
from ganserve.grids import image_grid
from ganserve.pictures import UnreadablePictureError, decode_picture, fit_picture

MAX_PAIRS: Final = 64

_MAX_PICTURE_PIXELS: Final = 32 << 20  # pairs are kept in memory, so large images get fewer


class PairPicture:
    """Keeps the first pairs, at most 64.

    Args:
        model: The translator. Its sizes come from the server and may be huge.

    Raises:
        InvalidRequest: A picture cannot hold a single pair of the model's images.
    """

    def __init__(self, model: ModelInfo) -> None:
        self._model = model
        self._cell = (max(model.input_width, model.width), max(model.input_height, model.height))
        self._max_pairs = min(MAX_PAIRS, _MAX_PICTURE_PIXELS // (2 * self._cell[0] * self._cell[1]))
        self._images: list[Image.Image] = []
        if not self._max_pairs:
            raise InvalidRequest(
                f"--grid: images of {self._cell[0]}x{self._cell[1]} are too large for a picture of pairs; leave it out"
            )

    def __len__(self) -> int:
        """The number of pairs so far."""
        return len(self._images) // 2

    def add(self, before: bytes, after: bytes) -> None:
        """Adds a pair, unless there are enough.

        Args:
            before: The PNG or JPEG file that was sent; shown as the model saw it.
            after: The server's translation, a PNG or JPEG file.

        Raises:
            ServerFault: `after` is not an image of the model's size.
        """
        if len(self) >= self._max_pairs:
            return
        try:
            sent = decode_picture(before, formats=("PNG", "JPEG"), max_pixels=MAX_PIXELS)
        except UnreadablePictureError:
            return  # the server could read it, so its translation is fine; leave out the pair
        model = self._model
        seen = fit_picture(sent, model.input_width, model.input_height)
        try:
            made = decode_picture(after, formats=("PNG", "JPEG"), max_pixels=model.width * model.height)
        except UnreadablePictureError as error:
            raise invalid_response(f"it holds a file that cannot be decoded ({error})") from error
        if made.size != (model.width, model.height):
            raise invalid_response(f"it holds an image of {made.width}x{made.height}, not {model.width}x{model.height}")
        self._images += [self._in_cell(seen.convert("L" if model.input_channels == 1 else "RGB")), self._in_cell(made)]

    def picture(self) -> Image.Image:
        """All pairs as before | after, several per line; there must be at least one."""
        pairs_per_line = max(1, round((len(self) / 2) ** 0.5))
        return image_grid(np.stack([np.asarray(image) for image in self._images]), 2 * pairs_per_line)

    def _in_cell(self, image: Image.Image) -> Image.Image:
        cell = Image.new("RGB", self._cell)
        cell.paste(image, ((cell.width - image.width) // 2, (cell.height - image.height) // 2))
        return cell
