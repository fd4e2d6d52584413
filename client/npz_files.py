"""Opens one array of a .npz file, an archive of .npy files that anyone may have made. Knows nothing of latents."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final

from client.errors import InvalidRequest

_DEFAULT_NAME: Final = "latents"
_MAX_NAMED: Final = 8  # arrays in a message

# The record that ends a ZIP file (APPNOTE 6.3, sections 4.3.15 and 4.3.16). It says how much of the file is the list of
# its members, all of which zipfile reads into objects of some hundred bytes each.
_END_SIGNATURE: Final = b"PK\x05\x06"
_LARGE_END_SIGNATURE: Final = b"PK\x06\x07"  # right before it where the true numbers stand elsewhere
_END_BYTES: Final = 22
_LARGE_END_BYTES: Final = 20
_MAX_TAIL_BYTES: Final = _END_BYTES + _LARGE_END_BYTES + (1 << 16)  # with the longest comment
_MAX_LIST_BYTES: Final = 4 << 20


@contextmanager
def npz_member(file: IO[bytes], name: str | None, max_bytes: int) -> Iterator[tuple[IO[bytes], int]]:
    """Opens one array of a .npz file, as a stream of the .npy file that it is.

    Args:
        file: the .npz file, which can be sought in.
        name: of the array; None: the only one, or the one called "latents".
        max_bytes: the most that the array may have when it is unpacked.

    Yields:
        The stream, and how many bytes it has by what the archive says. More than `max_bytes` never come out of it.

    Raises:
        InvalidRequest: there is no such array, or it is damaged, encrypted or too large.
    """
    try:
        _check_list(file)
        with zipfile.ZipFile(file) as archive:
            member = _find({info.filename.removesuffix(".npy"): info for info in _arrays(archive)}, name)
            if member.file_size > max_bytes:
                raise InvalidRequest(
                    f"{member.filename} unpacks to {member.file_size} bytes, and {max_bytes} is the most"
                )
            with archive.open(member) as stream:
                yield stream, member.file_size
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise InvalidRequest("is no .npz file, or a damaged one; save it again with numpy.savez") from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in an unusual way
        raise InvalidRequest(f"cannot be unpacked ({error}); save it again with numpy.savez") from error


def _check_list(file: IO[bytes]) -> None:
    """Refuses an archive with a list of members out of all proportion, before it is read."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MAX_TAIL_BYTES))
    tail = file.read(_MAX_TAIL_BYTES)
    end = tail.rfind(_END_SIGNATURE)
    if end < 0 or end + _END_BYTES > len(tail):
        raise zipfile.BadZipFile("no end")
    (list_bytes,) = struct.unpack_from("<I", tail, end + 12)
    if list_bytes > _MAX_LIST_BYTES or _LARGE_END_SIGNATURE in tail[max(0, end - _LARGE_END_BYTES) : end]:
        raise InvalidRequest("holds too many arrays; give one of its own file to the latents")
    file.seek(0)


def _arrays(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [info for info in archive.infolist() if info.filename.endswith(".npy")]


def _find(arrays: dict[str, zipfile.ZipInfo], name: str | None) -> zipfile.ZipInfo:
    if name is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    found = arrays.get(_DEFAULT_NAME if name is None else name)
    if found is None:
        names = ", ".join(sorted(arrays)[:_MAX_NAMED]) + (", ..." if len(arrays) > _MAX_NAMED else "")
        if not arrays:
            raise InvalidRequest("holds no array; save it with numpy.savez")
        if name is None:
            raise InvalidRequest(f"holds several arrays ({names}); name one, as FILE.npz:NAME")
        raise InvalidRequest(f"there is no such array; it holds {names}")
    return found
