"""Reads latents from files that anyone may have made, and writes them as .npy.

Every file is untrusted: sizes are checked before memory is taken for them, and no pickle is ever read.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest, UnwritableOutput
from client.files.images import check_output_file, write_whole
from client.sdk.latents import MAX_ROWS

SUFFIXES: Final = (".npy", ".npz", ".json", ".csv")
MAX_VALUES: Final = 1 << 28  # of all latents in a file: 1 GiB as float32
MAX_ARRAY_BYTES: Final = 2 << 30  # of a .npy or .npz file: that many as float64

_HEADER_READERS: Final = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_latents(name: str | Path) -> NDArray[np.float32]:
    """The latents of a file: one a row, or a single one.

    - .npy: an array (rows, dim) or (dim,) of numbers.
    - .npz: the only such array in it, or the one called "latents", or the one named as FILE.npz:NAME.
    - .json: a list of lists of numbers, or one list, or an object that holds either as "latents".
    - .csv: a latent a line, its numbers parted by commas, semicolons, tabs or blanks. A first line of names is left
      out, and so is one that numbers 8 or more columns from 0, as tables have that were written without names.

    Args:
        name: the file; for an array of a .npz file followed by a colon and the array's name.

    Returns:
        float32 (rows, dim), all finite.

    Raises:
        InvalidRequest: it cannot be read, or holds anything else; the message names the file, and the row, from 0.
    """
    path, member = _parted(str(name))
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidRequest(f"{path}: latents are read from {', '.join(SUFFIXES)} files; convert it to one of these")
    readers: dict[str, Callable[[IO[bytes]], NDArray[Any]]] = {
        ".npy": lambda file: _from_npy(file, os.fstat(file.fileno()).st_size),
        ".npz": lambda file: _from_npz(file, member),
        ".json": lambda file: rows_of_json(file.read(MAX_TEXT_BYTES)),
        ".csv": lambda file: rows_of_csv(file.read(MAX_TEXT_BYTES)),
    }
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            _check_file(file, MAX_ARRAY_BYTES if suffix in (".npy", ".npz") else MAX_TEXT_BYTES)
            return _checked(readers[suffix](file))
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error}") from error
    except OSError as error:
        raise InvalidRequest(f"{name}: cannot be read ({error.strerror or error}); name another file") from error
    except MemoryError as error:
        raise InvalidRequest(f"{name}: does not fit the memory; give fewer rows") from error


def check_latents_output(path: Path) -> None:
    """Finds out before any work is done whether `save_latents` can write there; writes nothing.

    Raises:
        UnwritableOutput: it cannot.
    """
    if path.suffix.lower() != ".npy":
        raise UnwritableOutput(f"{path}: latents are saved as .npy; end the name so")
    check_output_file(path)


def save_latents(latents: NDArray[np.float32], path: Path) -> None:
    """Writes latents, (rows, dim), as a .npy file that `read_latents` and numpy.load read back bit by bit.

    Raises:
        UnwritableOutput: it cannot be written; nothing is left behind.
    """
    check_latents_output(path)
    write_whole(path, lambda temporary: temporary.write_bytes(npy_bytes(latents)))


def npy_bytes(latents: NDArray[np.float32]) -> bytes:
    """The .npy file of latents, (rows, dim)."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(latents, dtype="<f4"), allow_pickle=False)
    return file.getvalue()


def _parted(name: str) -> tuple[Path, str | None]:
    """The path and the name of the array in it: the last .npz: parts them, unless there is a file of that very name."""
    place = name.lower().rfind(".npz:")
    if place < 0 or os.path.lexists(name):
        return Path(name), None
    return Path(name[: place + 4]), name[place + 5 :]


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would keep us waiting


def _check_file(file: IO[bytes], max_bytes: int) -> None:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise InvalidRequest("is not a plain file; name one")
    if status.st_size > max_bytes:
        raise InvalidRequest(f"has {status.st_size} bytes, and {max_bytes} is the most; give fewer rows, or use .npy")


def _checked(values: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers of shape (rows, dim) or (dim,) as float32 (rows, dim).

    Raises:
        InvalidRequest: they have another shape, or some are not finite.
    """
    rows = values[np.newaxis] if values.ndim == 1 else values
    if rows.ndim != 2 or 0 in rows.shape:
        raise InvalidRequest(f"must hold rows of latents, (rows, dim), not the shape {values.shape!s:.80}")
    if len(rows) > MAX_ROWS:
        raise InvalidRequest(f"has {len(rows)} rows, and {MAX_ROWS} is the most; give fewer")
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite, and is refused below
        latents = rows.astype(np.float32)
    sound = np.isfinite(latents).all(axis=1)
    if not sound.all():
        row = int(np.argmin(sound))
        column = int(np.argmin(np.isfinite(latents[row])))
        raise InvalidRequest(
            f"row {row} (the first is 0) holds {rows[row, column]!s:.40} at place {column}, which is not a finite"
            " float32; mend the row, or leave it out"
        )
    return latents


def _from_npy(file: IO[bytes], available_bytes: int) -> NDArray[Any]:
    """The array of an .npy stream of so many bytes (NumPy's NEP 1), of which no more is read than its header says."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADER_READERS:
            raise InvalidRequest(f"is a .npy file of version {version[0]}.{version[1]}; save it with numpy.save")
        shape, in_columns, dtype = _HEADER_READERS[version](file)
    except InvalidRequest:
        raise
    except Exception as error:  # the header is Python text of anyone's, and its reader raises whatever comes
        raise InvalidRequest("is no .npy file, or a damaged one; save it again with numpy.save") from error
    if dtype.hasobject or dtype.kind not in "fiu" or dtype.itemsize > 16:
        raise InvalidRequest(f"must hold plain numbers, not {dtype!s:.60}; save it as float32")
    if not 1 <= len(shape) <= 2 or not all(type(size) is int and size > 0 for size in shape):
        raise InvalidRequest(f"must hold rows of latents, (rows, dim), not the shape {shape!s:.80}")
    count = math.prod(shape)
    if count > MAX_VALUES:
        raise InvalidRequest(f"holds {count} numbers, and {MAX_VALUES} is the most; give fewer rows")
    if count * dtype.itemsize > available_bytes:
        raise InvalidRequest(f"is cut off: it has {available_bytes} bytes for {count} numbers; save it again")
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise InvalidRequest(f"is cut off: {len(data)} bytes of {count} numbers are there; save it again")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if in_columns else "C")


def _from_npz(file: IO[bytes], member: str | None) -> NDArray[Any]:
    with npz_member(file, member, MAX_ARRAY_BYTES) as (array, size_bytes):
        return _from_npy(array, size_bytes)


MAX_TEXT_BYTES: Final = 64 << 20  # reading one takes several times that

_DELIMITERS: Final = ",;\t "
_MIN_NUMBERED_COLUMNS: Final = 8  # of fewer, 0, 1, 2 might as well be a latent


def rows_of_json(data: bytes) -> NDArray[np.float64]:
    """The rows of a JSON text: a list of rows, or one row, or an object that holds either as "latents".

    Raises:
        InvalidRequest: it holds anything else; the message names the row, from 0.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        place = (
            f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "no text, or too deep"
        )
        raise InvalidRequest(f"is no JSON ({place}); give a list of rows, each a list of numbers") from error
    if isinstance(found, dict):
        if "latents" not in found:
            raise InvalidRequest('is an object without "latents"; put the rows there')
        found = found["latents"]
    if not isinstance(found, list) or not found:
        raise InvalidRequest("must hold a list of rows, each a list of numbers")
    if not isinstance(found[0], list):
        found = [found]
    return _stacked(_row_of_json(index, row) for index, row in enumerate(found))


def _row_of_json(index: int, row: object) -> NDArray[np.float64]:
    if not isinstance(row, list) or any(isinstance(value, bool) or not isinstance(value, int | float) for value in row):
        raise InvalidRequest(f"row {index} (the first is 0) must be a list of numbers")
    try:
        return np.array(row, dtype=np.float64)
    except OverflowError as error:
        raise InvalidRequest(f"row {index} (the first is 0) holds a number that is too large for float32") from error


def rows_of_csv(data: bytes) -> NDArray[np.float64]:
    """The rows of a table as text: one a line, its numbers parted by commas, semicolons, tabs or blanks.

    A first line that names the columns, or numbers 8 or more from 0, is left out.

    Raises:
        InvalidRequest: it holds anything else; the message names the line, or the row, from 0.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest("is not text in UTF-8; save it so") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise InvalidRequest("holds no rows; give a latent a line")
    delimiter = next((sign for sign in _DELIMITERS if sign in lines[0][1].strip()), ",")
    if _is_heading(_cells(lines[0][1], delimiter)) and len(lines) > 1:
        del lines[0]
    return _stacked(_row_of_csv(number, _cells(line, delimiter)) for number, line in lines)


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return line.split()
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error as error:
        raise InvalidRequest(f"cannot be taken for CSV ({error}); give a latent a line") from error


def _is_heading(cells: list[str]) -> bool:
    """Whether a first line names the columns, or numbers them 0, 1, 2, ... as tables without names do."""
    if len(cells) >= _MIN_NUMBERED_COLUMNS and cells == [str(index) for index in range(len(cells))]:
        return True
    return not any(map(_is_number, cells))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _row_of_csv(number: int, cells: list[str]) -> NDArray[np.float64]:
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError as error:
        wrong = next(cell for cell in cells if not _is_number(cell))
        raise InvalidRequest(f"line {number} holds {wrong!r:.40}, which is no number") from error


def _stacked(rows: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """All rows, (rows, dim).

    Raises:
        InvalidRequest: one has another size than the first.
    """
    return np.stack(list(_of_one_size(rows)))


def _of_one_size(rows: Iterable[NDArray[np.float64]]) -> Iterator[NDArray[np.float64]]:
    size = 0
    for index, row in enumerate(rows):
        size = size or len(row)
        if not len(row):
            raise InvalidRequest(f"row {index} (the first is 0) holds no numbers; mend it, or leave it out")
        if len(row) != size:
            raise InvalidRequest(
                f"row {index} (the first is 0) has {len(row)} numbers, and row 0 has {size}; all must have as many"
            )
        yield row


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
