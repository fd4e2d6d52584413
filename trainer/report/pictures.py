"""Pictures inside a page: files of a run as data URIs, decoded and written anew, for they are untrusted."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ganserve.pictures import UnreadablePictureError, decode_picture

MAX_PICTURE_BYTES = 64 << 20
MAX_PICTURE_PIXELS = 1 << 26
SHOWN_PIXELS = 560  # width and height at most; larger pictures are made smaller
WIDE_PIXELS = 1100  # the same of pictures that stand alone


@dataclass(frozen=True)
class Picture:
    """A picture, or why there is none."""

    caption: str
    uri: str = ""
    missing: str = ""
    is_pixels: bool = False  # a grid of small images, whose pixels may be shown large


def picture_of_file(path: Path | None, caption: str, *, side: int = SHOWN_PIXELS, is_pixels: bool = True) -> Picture:
    """A PNG file of a run; a missing or unreadable one leaves a note."""
    if path is None:
        return Picture(caption, missing="not reached")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PICTURE_BYTES + 1)
        if len(data) > MAX_PICTURE_BYTES:
            return Picture(caption, missing=f"{path.name} is too large a file")
        image = decode_picture(data, formats=("PNG",), max_pixels=MAX_PICTURE_PIXELS)
    except FileNotFoundError:
        return Picture(caption, missing=f"{path.name} is not there")
    except (OSError, UnreadablePictureError) as error:
        return Picture(caption, missing=f"{path.name} cannot be read ({str(error)[:100]})")
    image.thumbnail((side, side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return Picture(caption, data_uri("image/png", buffer.getvalue()), is_pixels=is_pixels)


def picture_of_svg(svg: bytes, caption: str) -> Picture:
    """A chart that we have drawn."""
    return Picture(caption, data_uri("image/svg+xml", svg))


def data_uri(kind: str, content: bytes) -> str:
    """The content itself as an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
