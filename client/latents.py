"""What a caller asks images of: latents, or a seed and a count; checked here, and cut into chunks. No protobuf."""

from __future__ import annotations

import operator
import secrets
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.errors import InvalidRequest
from ganserve.latents import latents_from_seed

MAX_ROWS: Final = 1_000_000  # a bound against slips of the finger: the result is kept in memory


@dataclass(frozen=True)
class SeededRows:
    """Rows 0 .. count-1 of the stream of latents that `seed` stands for."""

    seed: int
    count: int

    def __len__(self) -> int:
        """The number of rows."""
        return self.count


Rows: TypeAlias = NDArray[np.float32] | SeededRows


def checked_rows(latents: ArrayLike | None, seed: int | None, count: int | None) -> Rows:
    """The rows that these arguments stand for: `latents`, or `count` (1) rows of `seed` (a random one).

    Raises:
        InvalidRequest: the arguments exclude each other, or one is out of range.
    """
    if latents is not None:
        if seed is not None or count is not None:
            raise InvalidRequest("latents: give these, or a seed and a count, but not both")
        return _checked_latents(latents)
    return SeededRows(
        seed=secrets.randbits(32) if seed is None else whole_number("seed", seed, 0, 2**64 - 1),
        count=1 if count is None else whole_number("count", count, 1, MAX_ROWS),
    )


def split(rows: Rows, max_chunk_rows: int, latent_dim: int) -> list[Rows]:
    """Cuts `rows` into chunks of at most `max_chunk_rows`, in order; all in one if they fit.

    A seed means the first rows of its stream only, so the latents of several chunks are drawn here; the images are
    the same.
    """
    if len(rows) <= max_chunk_rows:
        return [rows]
    latents = latents_from_seed(rows.seed, rows.count, latent_dim) if isinstance(rows, SeededRows) else rows
    return [latents[start : start + max_chunk_rows] for start in range(0, len(latents), max_chunk_rows)]


def whole_number(name: str, value: object, smallest: int, largest: int) -> int:
    """Returns `value` as an int, whatever integer type it has.

    Raises:
        InvalidRequest: it is none, or lies outside `smallest` .. `largest`; the message begins with `name`.
    """
    try:
        number: int = operator.index(value)  # type: ignore[arg-type]  # what is no integer raises TypeError
    except TypeError:
        number = smallest - 1
    if not smallest <= number <= largest:
        raise InvalidRequest(f"{name}: must be a whole number in {smallest} .. {largest}, not {value!r:.60}")
    return number


def _checked_latents(latents: ArrayLike) -> NDArray[np.float32]:
    try:
        values: NDArray[Any] = np.asarray(latents)
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise InvalidRequest("latents: must be an array of shape (rows, latent_dim)") from error
    if values.dtype.kind not in "fiu":
        raise InvalidRequest(f"latents: must hold numbers, not {values.dtype}; convert them to float32")
    if values.ndim != 2 or 0 in values.shape:
        raise InvalidRequest(f"latents: must have shape (rows, latent_dim), not {values.shape}")
    if len(values) > MAX_ROWS:
        raise InvalidRequest(f"latents: must have at most {MAX_ROWS} rows, not {len(values)}")
    with np.errstate(over="ignore"):  # too large for float32: infinite, and refused below
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise InvalidRequest("latents: must be finite as float32; some are NaN or infinite")
    return values
