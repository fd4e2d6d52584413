"""Makes valid and broken picture files for tests."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ORIENTATION = 0x0112  # an EXIF tag
TURNED_LEFT = 6  # its value for a picture that viewers rotate clockwise by 90 degrees


def encoded(picture: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """An image file of a format; arrays have the shape (height, width) or (height, width, channels)."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def orientation(value: int) -> Image.Exif:
    """EXIF data with an orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header claims an RGB picture of a given size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def many_scans(count: int) -> bytes:
    """A progressive JPEG file with `count` scans, most of them empty."""
    data = encoded(noise(16, 16, 3), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") :]
    header = scan[: 2 + int.from_bytes(scan[2:4], "big")]
    return data[:-2] + header * (count - data.count(b"\xff\xda")) + data[-2:]


def many_chunks(count: int, kind: bytes = b"tEXt", data: bytes = b"a\x00b", before: bytes = b"IDAT") -> bytes:
    """A PNG file with `count` extra chunks before its pixels or its end."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    file = encoded(noise(8, 8, 3))
    place = file.index(before) - 4
    return file[:place] + chunk * count + file[place:]
