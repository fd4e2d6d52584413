"""Turns pixels into files that viewers open. Slow: call it off the event loop."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# zlib's fastest level: a generator's images are nearly noise to it, so more effort buys few bytes.
_COMPRESS_LEVEL = 1


def encode_png(pixels: NDArray[np.uint8]) -> list[bytes]:
    """Encodes pixels of shape (rows, height, width, channels), 1 to 4 channels, as one PNG file a row."""
    return [_encode(image) for image in pixels]


def _encode(image: NDArray[Any]) -> bytes:
    if image.shape[-1] == 1:
        image = image[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG", compress_level=_COMPRESS_LEVEL)
    return buffer.getvalue()
