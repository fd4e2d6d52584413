"""What a picture file means: upright pixels, gray or RGB, fitted to a size.

The trainer and the server read files alike, so there is one reader. Every file is untrusted. Palettes and transparency
are laid on white, 16-bit gray is scaled, EXIF rotation is applied, and of an animation the first frame counts.
Depends on Pillow and NumPy alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


class UnreadablePictureError(ValueError):
    """A picture cannot be used; the message says why."""


def decode_picture(
    data: bytes,
    *,
    formats: Sequence[str],
    max_pixels: int,
    check_size: Callable[[int, int], None] = lambda width, height: None,
) -> Image.Image:
    """Decodes one file to mode L or RGB.

    Args:
        data: the file.
        formats: Pillow's names of the formats that are taken; some others start programs of the system.
        max_pixels: a decompression bomb is refused by its header, before it costs memory.
        check_size: called with the header's width and height before anything is decoded; may raise
            UnreadablePictureError. A picture may still be turned on its side afterwards.

    Raises:
        UnreadablePictureError: it is no picture, is truncated, or is too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=list(formats)) as image:
            if image.width * image.height > max_pixels:
                raise UnreadablePictureError(f"{image.width}x{image.height} is too large")
            check_size(image.width, image.height)
            return _to_gray_or_rgb(ImageOps.exif_transpose(image))
    except UnreadablePictureError:
        raise
    except UnidentifiedImageError as error:  # its text names a Python object
        raise UnreadablePictureError(f"not a picture of the formats {', '.join(formats)}") from error
    except Exception as error:  # decoders raise anything at all on hostile files
        raise UnreadablePictureError(str(error) or type(error).__name__) from error


def fit_picture(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Resizes the side that has less to spare, and crops the centre."""
    return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)


def _to_gray_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel; a scale guessed from the image would brighten dark ones
        sixteen_bits = np.asarray(image).clip(0, 65535).astype(np.float32)
        return Image.fromarray(np.rint(sixteen_bits / 257).astype(np.uint8))
    if image.mode == "F":
        levels = np.asarray(image, dtype=np.float32) * np.float32(255)
        if not 0 <= levels.min() <= levels.max() <= 255:
            raise UnreadablePictureError("floating-point pixels outside 0..1")
        return Image.fromarray(np.rint(levels).astype(np.uint8))
    if image.mode in {"1", "L"} and "transparency" not in image.info:
        return image.convert("L")
    if image.has_transparency_data:
        gray = image.mode == "LA"
        rgba = image.convert("RGBA")
        page = Image.new("RGBA", rgba.size, "white")
        page.alpha_composite(rgba)
        return page.convert("L" if gray else "RGB")
    return image.convert("RGB")
