"""Reads latents from files that anyone may have made, and writes them as .npy.

Every file is untrusted: sizes are checked before memory is taken for them, and no pickle is ever read.
"""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest, UnwritableOutput
from client.image_output import check_output_file, write_whole
from client.latent_texts import MAX_TEXT_BYTES, rows_of_csv, rows_of_json
from client.latents import MAX_ROWS
from client.npz_files import npz_member

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
