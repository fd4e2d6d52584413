"""The parts of a zip archive whose members are stored as they are, written one after the other.

zipfile cannot go on with an archive that has no directory yet, and keeps half a kilobyte of memory a member. Here a
member is a header and its bytes, and the directory at the end is made by walking over the headers, so an archive of any
length is written, interrupted and continued in constant memory. The format is PKWARE's APPNOTE.TXT, 4.3 and 4.5.3
(ZIP64). Every date is 1980-01-01, so that the same members make the same bytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, Final

CRC_OFFSET: Final = 14  # of a member's checksum, from the beginning of its header

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END_64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64: Final = struct.Struct("<4sIQI")
_LOCAL_SIGNATURE: Final = b"PK\x03\x04"
_VERSION: Final = 20
_VERSION_64: Final = 45
_UNIX: Final = 3 << 8
_MODE: Final = 0o100644 << 16
_DATE: Final = (1 << 5) | 1
_FULL_16: Final = 0xFFFF  # the value is in the ZIP64 part
_FULL_32: Final = 0xFFFFFFFF
_ZIP64_TAG: Final = 1
_PIECE_BYTES: Final = 1 << 20
_DIRECTORY_BATCH: Final = 1000  # entries written at a time


@dataclass(frozen=True)
class Member:
    """Where a member lies; offsets in bytes from the beginning of the archive."""

    name: bytes
    header_start: int
    data_start: int
    size_bytes: int
    crc: int

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return self.data_start + self.size_bytes


def header(name: str, size_bytes: int, crc: int) -> bytes:
    """What stands before the bytes of a member; `name` is ASCII, and `crc` the CRC-32 of the bytes."""
    encoded = name.encode("ascii")
    extra = b""
    size = size_bytes
    if size_bytes >= _FULL_32:
        size = _FULL_32
        extra = struct.pack("<2H2Q", _ZIP64_TAG, 16, size_bytes, size_bytes)
    version = _VERSION_64 if extra else _VERSION
    fixed = _LOCAL.pack(_LOCAL_SIGNATURE, version, 0, 0, 0, _DATE, crc, size, size, len(encoded), len(extra))
    return fixed + encoded + extra


def member_bytes(name: str, data: bytes) -> bytes:
    """A whole small member."""
    return header(name, len(data), zlib.crc32(data)) + data


def member_at(file: BinaryIO, start: int) -> Member | None:
    """The member of `header`'s making whose header is at `start`; None if there is none, or only a part of a header."""
    file.seek(start)
    fixed = file.read(_LOCAL.size)
    if len(fixed) < _LOCAL.size:
        return None
    signature, _, flags, method, _, _, crc, size, stored_size, name_bytes, extra_bytes = _LOCAL.unpack(fixed)
    variable = file.read(name_bytes + extra_bytes)
    if (
        signature != _LOCAL_SIGNATURE
        or flags
        or method
        or size != stored_size
        or len(variable) < name_bytes + extra_bytes
    ):
        return None
    name, extra = variable[:name_bytes], variable[name_bytes:]
    if size == _FULL_32:
        if len(extra) != 20:
            return None
        size = struct.unpack("<2H2Q", extra)[2]
    return Member(name, start, start + len(fixed) + len(variable), size, crc)


def is_whole(file: BinaryIO, member: Member) -> bool:
    """Whether all bytes of a member are there, and are those that its checksum was made of."""
    return crc_of(file, member.data_start, member.size_bytes) == member.crc


def crc_of(file: BinaryIO, start: int, size_bytes: int) -> int | None:
    """The CRC-32 of a part of a file; None if the file ends before."""
    file.seek(start)
    crc, left = 0, size_bytes
    while left:
        piece = file.read(min(left, _PIECE_BYTES))
        if not piece:
            return None
        crc = zlib.crc32(piece, crc)
        left -= len(piece)
    return crc


def write_directory(file: BinaryIO) -> None:
    """Writes the directory at the end of a file that holds whole members and nothing else.

    Raises:
        ValueError: it holds something else.
    """
    start = position = file.seek(0, os.SEEK_END)
    entries = 0
    members = _members(file, start)
    while batch := list(islice(members, _DIRECTORY_BATCH)):
        directory = b"".join(map(_entry, batch))
        file.seek(position)
        file.write(directory)
        position += len(directory)
        entries += len(batch)
    size = position - start
    file.seek(position)
    if entries >= _FULL_16 or start >= _FULL_32 or size >= _FULL_32:
        rest = _END_64.size - 12  # its first two fields do not count
        version = _UNIX | _VERSION_64
        file.write(_END_64.pack(b"PK\x06\x06", rest, version, _VERSION_64, 0, 0, entries, entries, size, start))
        file.write(_LOCATOR_64.pack(b"PK\x06\x07", 0, position, 1))
    count = min(entries, _FULL_16)
    file.write(_END.pack(b"PK\x05\x06", 0, 0, count, count, min(size, _FULL_32), min(start, _FULL_32), 0))


def _members(file: BinaryIO, end: int) -> Iterator[Member]:
    start = 0
    while start < end:
        member = member_at(file, start)
        if member is None or member.end > end:
            raise ValueError(f"no whole member at byte {start}")
        yield member
        start = member.end


def _entry(member: Member) -> bytes:
    """A member's line of the directory."""
    size, offset = member.size_bytes, member.header_start
    large = [size, size] if size >= _FULL_32 else []
    if offset >= _FULL_32:
        large.append(offset)
    extra = struct.pack(f"<2H{len(large)}Q", _ZIP64_TAG, 8 * len(large), *large) if large else b""
    version = _VERSION_64 if large else _VERSION
    fixed = _CENTRAL.pack(
        b"PK\x01\x02",
        _UNIX | version,
        version,
        0,
        0,
        0,
        _DATE,
        member.crc,
        min(size, _FULL_32),
        min(size, _FULL_32),
        len(member.name),
        len(extra),
        0,
        0,
        0,
        _MODE,
        min(offset, _FULL_32),
    )
    return fixed + member.name + extra
