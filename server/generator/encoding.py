"""Encodes pixels as PNG and JPEG files. Slow: call it off the event loop."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from server.limits import ImageFormat

# zlib's fastest level: generated images compress badly, so higher levels save few bytes.
_PNG_COMPRESS_LEVEL: Final = 1
_JPEG_QUALITY: Final = 95
_JPEG_SUBSAMPLING: Final = "4:4:4"  # full colour resolution: subsampling is visible in small images


def encode_png(pixels: NDArray[np.uint8]) -> list[bytes]:
    """Encodes pixels of shape (rows, height, width, channels), 1 to 4 channels, as one PNG file per row."""
    return [_encode(image, "PNG", compress_level=_PNG_COMPRESS_LEVEL) for image in pixels]


def encode_jpeg(pixels: NDArray[np.uint8]) -> list[bytes]:
    """Encodes pixels of shape (rows, height, width, channels), 1 or 3 channels, as one JPEG file per row."""
    return [_encode(image, "JPEG", quality=_JPEG_QUALITY, subsampling=_JPEG_SUBSAMPLING) for image in pixels]


ENCODERS: Final[Mapping[ImageFormat, Callable[[NDArray[np.uint8]], list[bytes]]]] = {
    ImageFormat.PNG: encode_png,
    ImageFormat.JPEG: encode_jpeg,
}


def _encode(image: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    if image.shape[-1] == 1:
        image = image[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format=kind, **options)
    return buffer.getvalue()
