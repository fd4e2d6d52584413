"""Reads the structure of PNG and JPEG files without a decoder, and refuses files that would be too costly to decode.

Pillow turns all metadata of a file into Python objects when it opens it, and libjpeg walks the full picture once per
scan, so an untrusted file of a few kilobytes can cost minutes or gigabytes. This module refuses such files and removes
the metadata from the others; only the EXIF orientation affects the pixels.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE: Final = b"\xff\xd8\xff"

MAX_HEADER_PARTS: Final = 1_000  # PNG chunks or JPEG segments; cameras and editors write tens
MAX_HEADER_BYTES: Final = 16 << 20  # before the pixels
MAX_JPEG_SCANS: Final = 100  # progressive files have about 10
_MAX_PNG_CHUNKS: Final = 100_000  # including pixel data; writers put at least 8 KiB in a chunk

# Chunks that define the pixels (PNG specification, section 11), and those that hold pixel data or animation frames.
_PNG_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_PIXELS: Final = frozenset({b"IDAT", b"fcTL", b"fdAT"})

# JPEG markers (ITU-T T.81, table B.1), their second byte.
_SOS: Final = 0xDA
_APP1: Final = 0xE1
_EXIF_INTRODUCTION: Final = b"Exif\x00\x00"
_JPEG_WITH_LENGTH: Final = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE}) - {0xC8}
_JPEG_DROPPED: Final = frozenset({*range(0xE1, 0xF0), 0xFE}) - {0xEE}  # keeps JFIF and Adobe: they define colours
_MARKER: Final = re.compile(rb"\xff[^\x00\xff]")

_ORIENTATION_TAG: Final = 0x0112
_SHORT: Final = 3  # a TIFF field type
_UPRIGHT: Final = 1


class UnreadablePictureError(ValueError):
    """A picture cannot be read; the message says why."""


class Outline(NamedTuple):
    """A file that is safe to decode."""

    data: bytes  # without metadata
    exif: bytes  # content of the first EXIF block, or empty


def read_outline(data: bytes) -> Outline:
    """Refuses a PNG or JPEG file that would cost far more to decode than its pixels, and removes metadata.

    Returns files of other formats unchanged. Files that are merely broken are left to the decoder. A file with metadata
    is copied once.

    Raises:
        UnreadablePictureError: The header is damaged or too large, or there are too many parts or scans.
    """
    if data.startswith(PNG_SIGNATURE):
        return _png_outline(data)
    if data.startswith(JPEG_SIGNATURE):
        return _jpeg_outline(data)
    return Outline(data, b"")


def exif_orientation(exif: bytes) -> int:
    """The orientation tag of an EXIF block (EXIF 2.3, section 4.6.4), 1 to 8; 1 (upright) if missing or invalid."""
    tiff = exif.removeprefix(_EXIF_INTRODUCTION)
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return _UPRIGHT
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    if directory + 2 > len(tiff):
        return _UPRIGHT
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for entry in range(directory + 2, min(directory + 2 + 12 * entries, len(tiff) - 11), 12):
        tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
        if tag == _ORIENTATION_TAG:
            return value if (kind, count) == (_SHORT, 1) and 1 <= value <= 8 else _UPRIGHT
    return _UPRIGHT


def _png_outline(data: bytes) -> Outline:
    exif = b""
    dropped: list[tuple[int, int]] = []
    parts, in_header = 0, True
    for kind, start, stop in _png_chunks(data):
        parts += kind not in _PNG_PIXELS
        in_header = in_header and kind != b"IDAT"
        if parts > MAX_HEADER_PARTS:
            raise UnreadablePictureError(f"it has more than {MAX_HEADER_PARTS} chunks of metadata")
        if in_header and stop > MAX_HEADER_BYTES:
            raise UnreadablePictureError(f"its header is larger than {MAX_HEADER_BYTES >> 20} MiB")
        if kind not in _PNG_KEPT:
            dropped.append((start, stop))
        if kind == b"eXIf" and not exif:
            exif = data[start + 8 : stop - 4]
    return Outline(_without(data, dropped), exif)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and stop of each chunk; a truncated file is left to the decoder."""
    start = len(PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        if start + 12 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, start)
        stop = start + 12 + length
        yield kind, start, min(stop, len(data))
        if kind == b"IEND":
            return
        start = stop
    raise UnreadablePictureError(f"it has more than {_MAX_PNG_CHUNKS} chunks")


def _jpeg_outline(data: bytes) -> Outline:
    exif = b""
    dropped: list[tuple[int, int]] = []
    end = 2  # of the previous segment
    for _ in range(MAX_HEADER_PARTS):
        found = _MARKER.search(data, end, MAX_HEADER_BYTES)
        if found is None:
            large = len(data) > MAX_HEADER_BYTES
            reason = f"its header is larger than {MAX_HEADER_BYTES >> 20} MiB" if large else "it has no pixels"
            raise UnreadablePictureError(reason)
        start = found.start()
        marker = data[start + 1]
        if start > end:
            dropped.append((end, start))  # padding, which Pillow would read byte by byte
        if marker not in _JPEG_WITH_LENGTH:
            raise UnreadablePictureError("its header is damaged")
        if marker == _SOS:
            _check_scans(data, start)
            return Outline(_without(data, dropped), exif)
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        end = start + 2 + length
        if length < 2 or end > len(data):
            raise UnreadablePictureError("its header is damaged or cut short")
        if marker in _JPEG_DROPPED:
            dropped.append((start, end))
        if marker == _APP1 and not exif and data.startswith(_EXIF_INTRODUCTION, start + 4):
            exif = data[start + 4 : end]
    raise UnreadablePictureError(f"it has more than {MAX_HEADER_PARTS} segments of metadata")


def _check_scans(data: bytes, first: int) -> None:
    """Refuses a file with too many scans.

    The first count, of the two marker bytes, is fast and clears nearly all files. A video that a phone appends to a
    picture may hold these bytes by chance, so the second count adds the header length, without which libjpeg fails.
    """
    if data.count(bytes((0xFF, _SOS)), first) <= MAX_JPEG_SCANS:
        return
    headers = (bytes((0xFF, _SOS, 0, 6 + 2 * components, components)) for components in range(5))
    if sum(data.count(header, first) for header in headers) > MAX_JPEG_SCANS:
        raise UnreadablePictureError(f"it has more than {MAX_JPEG_SCANS} scans")


def _without(data: bytes, dropped: list[tuple[int, int]]) -> bytes:
    """The bytes outside the given spans (start, stop), which are in ascending order."""
    if not dropped:
        return data
    view = memoryview(data)
    pieces: list[memoryview] = []
    position = 0
    for start, stop in dropped:
        pieces.append(view[position:start])
        position = stop
    return b"".join([*pieces, view[position:]])
