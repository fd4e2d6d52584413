"""Reads latents from .npy, .npz, .json and text files, and writes them as .npy. Never loads a pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.errors import InvalidRequest, UnwritableOutput, one_line
from client.files.images import check_output_file, write_atomically
from client.sdk.latents import MAX_ROWS

SUFFIXES: Final = (".npy", ".npz", ".json", ".csv", ".txt")

_DEFAULT_ARRAY: Final = "latents"
_MAX_LISTED: Final = 8  # array names in a message
_MIN_NUMBERED_COLUMNS: Final = 8  # a first line of fewer, such as 0,1,2, may be a latent


def read_latents(name: str | Path) -> NDArray[np.float32]:
    """Reads the latents in a file: one per row, or a single one.

    - .npy: an array (rows, dim) or (dim,).
    - .npz: its only array, or the one called "latents", or the one named as FILE.npz:NAME.
    - .json: a list of lists of numbers, or one list, or an object that holds either under "latents".
    - .csv, .txt: one latent per line, numbers separated by commas, semicolons, tabs or blanks. A first line of column
      names is skipped, and so is one that numbers 8 or more columns from 0, as pandas writes it.

    Args:
        name: The file; for one array of a .npz file, followed by a colon and the name of the array.

    Returns:
        float32 (rows, dim), all finite.

    Raises:
        InvalidRequest: The file cannot be read or holds no latents; the message names the file and the reason.
    """
    path, array_name = _path_and_array(str(name))
    suffix = path.suffix.lower()
    try:
        if suffix in (".npy", ".npz"):
            return _checked(_from_numpy(path, array_name))
        if suffix == ".json":
            return _checked(_from_json(path))
        if suffix in (".csv", ".txt"):
            return _checked(_from_text(path))
        raise InvalidRequest(f"unknown format; convert it to one of {', '.join(SUFFIXES)}")
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error}") from error
    except OSError as error:
        raise InvalidRequest(f"{name}: cannot be read ({error.strerror or error}); name another file") from error
    except Exception as error:  # NumPy, zipfile and json each raise errors of their own
        # NumPy takes any file that it does not recognize for a pickle, and suggests loading it unsafely.
        reason = "pickled Python objects are never loaded" if "pickle" in str(error) else one_line(str(error))
        raise InvalidRequest(f"{name}: is not a valid {suffix} file of numbers ({reason}); save it again") from error


def check_latents_output(path: Path) -> None:
    """Checks, before any work is done, that `save_latents` can write to `path`; writes nothing.

    Raises:
        UnwritableOutput: It cannot.
    """
    if path.suffix.lower() != ".npy":
        raise UnwritableOutput(f"{path}: latents are saved as .npy; use that extension")
    check_output_file(path)


def save_latents(latents: NDArray[np.float32], path: Path) -> None:
    """Writes latents, (rows, dim), as a float32 .npy file, which `read_latents` and numpy.load read back exactly.

    Raises:
        UnwritableOutput: The file cannot be written; nothing is left behind.
    """
    check_latents_output(path)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a path, NumPy would append .npy to its name
            np.save(file, np.ascontiguousarray(latents, dtype="<f4"), allow_pickle=False)

    write_atomically(path, write)


def _path_and_array(name: str) -> tuple[Path, str | None]:
    """Splits FILE.npz:NAME at the last ".npz:", unless a file of that very name exists."""
    place = name.lower().rfind(".npz:")
    if place < 0 or os.path.lexists(name):
        return Path(name), None
    return Path(name[: place + 4]), name[place + 5 :]


def _from_numpy(path: Path, array_name: str | None) -> ArrayLike:
    loaded = np.load(path, allow_pickle=False)
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        return loaded  # type: ignore[no-any-return]  # an array
    with loaded as archive:
        names = sorted(archive.files)
        wanted = array_name or (names[0] if len(names) == 1 else _DEFAULT_ARRAY)
        if wanted in names:
            return archive[wanted]
    listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
    if not names:
        raise InvalidRequest("holds no array; save one with numpy.savez")
    if array_name is None:
        raise InvalidRequest(f"holds several arrays ({listed}); name one, as FILE.npz:NAME")
    raise InvalidRequest(f"no array has this name; name one of {listed}")


def _from_json(path: Path) -> ArrayLike:
    found = json.loads(path.read_text("utf-8"))
    if isinstance(found, dict):
        if "latents" not in found:
            raise InvalidRequest('is an object without "latents"; put the rows there')
        found = found["latents"]
    lengths = [len(row) if isinstance(row, list) else None for row in found] if isinstance(found, list) else []
    odd = next((index for index, length in enumerate(lengths) if length != lengths[0]), None)
    if odd is not None:
        raise InvalidRequest(
            f"row {odd} (counted from 0) is not as long as row 0; give every row the same number of values"
        )
    return found  # type: ignore[no-any-return]  # `_checked` refuses anything but numbers


def _from_text(path: Path) -> ArrayLike:
    lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise InvalidRequest("holds no rows; write one latent per line")
    delimiter = next((character for character in ",;\t" if character in lines[0]), None)  # None: any blanks
    cells = [cell.strip(' "') for cell in lines[0].split(delimiter)]
    numbered = len(cells) >= _MIN_NUMBERED_COLUMNS and cells == [str(index) for index in range(len(cells))]
    skipped = int(len(lines) > 1 and (numbered or not any(map(_is_number, cells))))
    return np.loadtxt(lines[skipped:], delimiter=delimiter, quotechar='"', comments=None, ndmin=2)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _checked(found: ArrayLike) -> NDArray[np.float32]:
    """Returns numbers of shape (rows, dim) or (dim,) as finite float32 (rows, dim)."""
    values: NDArray[Any] = np.asarray(found)
    if values.ndim not in (1, 2) or 0 in values.shape:
        raise InvalidRequest(f"must hold latents of shape (rows, dim), not {values.shape!s:.80}; reshape the array")
    if values.dtype.kind not in "fiu":
        raise InvalidRequest(f"must hold plain numbers, not {values.dtype!s:.60}; save them as float32")
    rows = np.atleast_2d(values)
    if len(rows) > MAX_ROWS:
        raise InvalidRequest(f"has {len(rows)} rows; the limit is {MAX_ROWS}; split it")
    with np.errstate(over="ignore", invalid="ignore"):  # too large for float32 becomes infinite, and is refused below
        latents = rows.astype(np.float32)
    bad = np.argwhere(~np.isfinite(latents))
    if len(bad):
        row, column = bad[0]
        raise InvalidRequest(
            f"row {row} (counted from 0) holds {rows[row, column]!s:.40} in column {column}, which is not a finite"
            " float32; correct the row or remove it"
        )
    return latents
