"""Reads rows of numbers from JSON and CSV texts that anyone may have written. Knows no files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest

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
