"""Which files are pictures: every still format that Pillow decodes by itself, found by suffix or by content."""

from __future__ import annotations

import warnings
from functools import cache
from typing import IO, Final

from PIL import Image

# Pillow starts another program for EPS, reads WMF on Windows only, and decodes the others only with plugins.
_NOT_DECODED: Final = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
_ANY_FILE: Final = frozenset({"IMT", "SPIDER", "IPTC"})  # no signature, no suffix: Pillow may take any file for one


@cache
def picture_formats() -> tuple[str, ...]:
    """The accepted formats, by Pillow's names."""
    Image.init()
    return tuple(sorted(Image.OPEN.keys() - _NOT_DECODED - _ANY_FILE))


@cache
def picture_suffixes() -> frozenset[str]:
    """The usual suffixes of these formats, in lower case: ".png", ".jfif"."""
    formats = set(picture_formats())
    return frozenset(suffix for suffix, kind in Image.EXTENSION.items() if kind in formats)


def is_picture(file: IO[bytes]) -> bool:
    """Whether a file's content is in an accepted format, by its signature and header; reads no pixels."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            with Image.open(file, formats=_with_signature()):
                return True
    except Image.DecompressionBombError:
        return True  # decoding says that it is too large
    except Exception:  # noqa: BLE001  # readers of formats and archives raise anything on other files
        return False


@cache
def _with_signature() -> tuple[str, ...]:
    return tuple(name for name in picture_formats() if Image.OPEN[name][1] is not None)
