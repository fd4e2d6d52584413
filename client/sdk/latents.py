"""Validates the latents of a call, or its seed and count, and splits them into chunks."""

from __future__ import annotations

import operator
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.errors import InvalidRequest
from ganserve.latents import NORMAL, latents_from_seed, latents_in_pieces

MAX_ROWS: Final = 1_000_000  # kept in memory; catches typos
MAX_STREAM_ROWS: Final = 1_000_000_000  # fetched in chunks


@dataclass(frozen=True)
class SeededRows:
    """Rows first_row .. first_row + count - 1 of the seed's stream of latents."""

    seed: int
    count: int
    first_row: int = 0

    def __len__(self) -> int:
        """The number of rows."""
        return self.count


Rows: TypeAlias = NDArray[np.float32] | SeededRows


def checked_rows(
    latents: ArrayLike | None,
    seed: int | None,
    count: int | None,
    n: int | None = None,
    *,
    first_row: int = 0,
    max_rows: int = MAX_ROWS,
) -> Rows:
    """The rows of a call: `latents`, or `count` rows of `seed`, by default one row of a random seed.

    Args:
        latents: (rows, latent_dim).
        seed: 0 .. 2**64 - 1.
        count: At most `max_rows`.
        n: Another name of `count`.
        first_row: Where the rows start in the stream of the seed; 0 .. MAX_STREAM_ROWS.
        max_rows: The most rows of a seed.

    Raises:
        InvalidRequest: The arguments exclude each other, or one is out of range.
    """
    count = one_count(count, n)
    begins = whole_number("first_row", first_row, 0, MAX_STREAM_ROWS)
    if begins and seed is None:
        raise InvalidRequest("first_row: is a position in the stream of a seed; give the seed, too")
    if latents is not None:
        if seed is not None or count is not None:
            raise InvalidRequest("latents: give either latents, or a seed and a count")
        return _checked_latents(latents)
    return SeededRows(
        seed=secrets.randbits(32) if seed is None else whole_number("seed", seed, 0, 2**64 - 1),
        count=1 if count is None else whole_number("count", count, 1, max_rows),
        first_row=begins,
    )


@overload
def one_count(count: int | None, n: int | None) -> int | None: ...
@overload
def one_count(count: int | None, n: int | None, default: int) -> int: ...
def one_count(count: int | None, n: int | None, default: int | None = None) -> int | None:
    """Whichever of the two names of a count is given, or the default.

    Raises:
        InvalidRequest: Both are given.
    """
    if count is not None and n is not None:
        raise InvalidRequest("n: is another name of count; give only one of them")
    given = n if count is None else count
    return default if given is None else given


def checked_anchor(
    name: str, anchor: int | ArrayLike, latent_dim: int, distribution: str = NORMAL
) -> NDArray[np.float32]:
    """`anchor` as a latent, float32 (latent_dim,); a seed stands for its first latent of the distribution.

    Raises:
        InvalidRequest: `anchor` is neither; the message begins with `name`.
    """
    try:
        if np.ndim(anchor) == 0:
            seed = whole_number(name, anchor, 0, 2**64 - 1)
            first: NDArray[np.float32] = latents_from_seed(seed, 1, latent_dim, distribution)[0]
            return first
        row: NDArray[np.float32] = _checked_latents(np.asarray(anchor)[np.newaxis])[0]
    except (InvalidRequest, ValueError) as error:
        raise InvalidRequest(
            f"{name}: must be a seed in 0 .. 2**64 - 1, or one latent of {latent_dim} finite numbers"
        ) from error
    if len(row) != latent_dim:
        raise InvalidRequest(f"{name}: must have {latent_dim} numbers for this model, not {len(row)}")
    return row


def split(rows: Rows, max_chunk_rows: int, latent_dim: int, distribution: str = NORMAL) -> Iterator[Rows]:
    """Splits `rows` into chunks of at most `max_chunk_rows`, in order; a single chunk if they fit.

    Servers draw only the first rows of a seed's stream. The latents of several chunks, and of later rows, are therefore
    drawn here, each chunk when it is needed; the images are the same.
    """
    if len(rows) <= max_chunk_rows and not (isinstance(rows, SeededRows) and rows.first_row):
        yield rows
    elif isinstance(rows, SeededRows):
        yield from latents_in_pieces(rows.seed, rows.first_row, rows.count, latent_dim, max_chunk_rows, distribution)
    else:
        for start in range(0, len(rows), max_chunk_rows):
            yield rows[start : start + max_chunk_rows]


def whole_number(name: str, value: object, smallest: int, largest: int) -> int:
    """Returns `value`, of any integer type, as an int.

    Raises:
        InvalidRequest: It is not an integer in `smallest` .. `largest`; the message begins with `name`.
    """
    try:
        number: int = operator.index(value)  # type: ignore[arg-type]  # anything but an integer raises TypeError
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
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused below
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise InvalidRequest("latents: must be finite as float32; some are NaN or infinite")
    return values
