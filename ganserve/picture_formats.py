"""Which files of a folder or archive are pictures: every still format that Pillow decodes by itself.

A file is one by its suffix or by its content. Trainer and client share this rule.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import PurePath
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


def why_left_out(path: PurePath, open_file: Callable[[], IO[bytes]]) -> str | None:
    """Why a file found in a folder or archive is not read as a picture; None if it is.

    Args:
        path: Below the folder, or inside the archive.
        open_file: Opens the file; called only if the suffix does not decide.

    Returns:
        "hidden", the suffix in lower case, or "without a suffix".
    """
    if any(is_hidden(part) for part in path.parts):
        return "hidden"
    suffix = path.suffix.lower()
    if suffix in picture_suffixes() or _opens_as_picture(open_file):
        return None
    return suffix or "without a suffix"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left out with everything in it."""
    return name.startswith(".") or name == "__MACOSX"


def counts(left_out: Mapping[str, int]) -> str:
    """The reasons with their numbers, the largest first: "20 x .heic, 1 x .db"."""
    by_count = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} x {reason}" for reason, count in by_count)


def _opens_as_picture(open_file: Callable[[], IO[bytes]]) -> bool:
    try:
        with open_file() as content:
            return is_picture(content)
    except Exception:  # noqa: BLE001  # archives raise many exception types; the file is counted as left out
        return False


@cache
def _with_signature() -> tuple[str, ...]:
    return tuple(name for name in picture_formats() if Image.OPEN[name][1] is not None)
