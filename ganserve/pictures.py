"""Decodes image files to upright gray or RGB pixels. Trainer, server and client share this reader.

Transparency is blended with white, 16-bit gray is scaled to 8 bits, EXIF rotation is applied, and an animation is read
as its first frame. Every file is untrusted.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ganserve.picture_headers import (
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    UnreadablePictureError,
    exif_orientation,
    read_outline,
)

__all__ = ["JPEG_SIGNATURE", "PNG_SIGNATURE", "UnreadablePictureError", "decode_picture", "fit_picture"]

_MOST_NAMED: Final = 8  # formats in a message
_STRIP_PIXELS: Final = 1 << 18  # converted at a time, because the intermediate pixels are larger
_TURNS: Final = {  # by EXIF orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_picture(
    data: bytes,
    *,
    formats: Sequence[str],
    max_pixels: int,
    check_size: Callable[[int, int], None] = lambda width, height: None,
) -> Image.Image:
    """Decodes one file to mode L or RGB.

    Peak memory is 12 bytes per pixel for a progressive CMYK JPEG (8 for coefficients, 4 for colours) and at most 8 for
    other files, plus a copy of the file if it holds metadata. Accept only PNG and JPEG from untrusted senders: the
    metadata of other formats is not limited here.

    Args:
        data: The content of the file.
        formats: Accepted formats, by Pillow's names; Pillow starts external programs for some others.
        max_pixels: Larger pictures (decompression bombs) are refused by their header, before they are decoded.
        check_size: Called with the header's width and height before decoding; may raise UnreadablePictureError. EXIF
            rotation may swap them afterwards.

    Raises:
        UnreadablePictureError: The file is not a picture, is truncated or too large, or has far more metadata or scans
            than a real picture.
        MemoryError: There is too little memory; the file itself may be valid.
    """
    outline = read_outline(data)
    try:
        with Image.open(io.BytesIO(outline.data), formats=list(formats)) as image:
            if image.width * image.height > max_pixels:
                raise UnreadablePictureError(f"{image.width}x{image.height} is too large")
            check_size(image.width, image.height)
            picture = _to_gray_or_rgb(image)
            exif = outline.exif or image.info.get("exif", b"")
            del image  # free its pixels before the rotation allocates others
        turn = _TURNS.get(exif_orientation(exif)) if isinstance(exif, bytes) else None
        return picture if turn is None else picture.transpose(turn)
    except (UnreadablePictureError, MemoryError):
        raise
    except UnidentifiedImageError as error:  # Pillow's message names a Python object
        known = f"one of the formats {', '.join(formats)}" if len(formats) <= _MOST_NAMED else "a known format"
        raise UnreadablePictureError(f"not a picture in {known}") from error
    except Exception as error:  # decoders may raise anything on a hostile file
        raise UnreadablePictureError(str(error) or type(error).__name__) from error


def fit_picture(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Scales a picture to cover width x height, and crops the centre."""
    return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)


def _to_gray_or_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):
        return _by_strips(image, "L", _from_16_bits)
    if image.mode == "F":
        return _by_strips(image, "L", _from_floating_point)
    if image.mode in {"1", "L"} and "transparency" not in image.info:
        return image if image.mode == "L" else image.convert("L")
    if image.has_transparency_data:
        return _by_strips(image, "L" if image.mode == "LA" else "RGB", _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _by_strips(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Converts a few rows at a time, so that only the input and the result are in memory at full size."""
    result = Image.new(mode, image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        result.paste(convert(image.crop(box)).convert(mode), box)
    return result


def _from_16_bits(strip: Image.Image) -> Image.Image:
    """Always divides by 257: a scale guessed from the values would brighten dark pictures."""
    levels = np.asarray(strip)
    if not 0 <= levels.min() <= levels.max() <= 65535:
        raise UnreadablePictureError("integer pixels outside 0..65535")
    levels = levels.astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def _from_floating_point(strip: Image.Image) -> Image.Image:
    levels = np.asarray(strip, dtype=np.float32) * np.float32(255)
    if not 0 <= levels.min() <= levels.max() <= 255:
        raise UnreadablePictureError("floating-point pixels outside 0..1")
    return Image.fromarray(np.rint(levels).astype(np.uint8))


def _on_white(strip: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip.convert("RGBA"))
