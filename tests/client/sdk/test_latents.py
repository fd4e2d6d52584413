from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import InvalidRequest
from client.sdk.latents import MAX_ROWS, SeededRows, checked_rows, split
from ganserve.latents import latents_from_seed


@given(seed=st.integers(0, 2**64 - 1), count=st.integers(1, 60), limit=st.integers(1, 70), latent_dim=st.integers(1, 5))
def test_chunks_of_a_seed_hold_its_rows_in_order(seed: int, count: int, limit: int, latent_dim: int) -> None:
    chunks = list(split(SeededRows(seed, count), limit, latent_dim))
    if count <= limit:
        assert chunks == [SeededRows(seed, count)]
        return
    arrays = [chunk for chunk in chunks if isinstance(chunk, np.ndarray)]
    np.testing.assert_array_equal(np.concatenate(arrays), latents_from_seed(seed, count, latent_dim))
    assert all(1 <= len(chunk) <= limit for chunk in chunks)
    assert len(chunks) == -(-count // limit)


@given(count=st.integers(1, 60), limit=st.integers(1, 70))
def test_chunks_of_latents_hold_them_in_order(count: int, limit: int) -> None:
    latents = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    arrays = [chunk for chunk in split(latents, limit, 2) if isinstance(chunk, np.ndarray)]
    np.testing.assert_array_equal(np.concatenate(arrays), latents)
    assert max(map(len, arrays)) <= limit


def test_a_random_seed_is_drawn_when_none_is_given() -> None:
    seeds = {checked_rows(None, None, 3) for _ in range(5)}
    assert len(seeds) > 1
    assert all(isinstance(rows, SeededRows) and rows.count == 3 for rows in seeds)


def test_seed_and_count_may_be_of_any_integer_type() -> None:
    assert checked_rows(None, np.int64(7), np.uint8(2)) == SeededRows(7, 2)  # type: ignore[arg-type]  # NumPy's are meant


@pytest.mark.parametrize("latents", [[[1, 2], [3, 4]], np.ones((2, 2), np.float64), np.ones((2, 2), ">f4")])
def test_arrays_of_other_numbers_become_float32(latents: object) -> None:
    rows = checked_rows(latents, None, None)  # type: ignore[arg-type]  # whatever is like an array
    assert isinstance(rows, np.ndarray)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.asarray(latents))


@pytest.mark.parametrize(
    ("latents", "seed", "count", "message"),
    [
        ([[1.0]], 0, None, "latents: give either latents, or a seed and a count"),
        ([[1.0]], None, 1, "either latents, or a seed"),
        ([1.0, 2.0], None, None, r"latents: must have shape \(rows, latent_dim\), not \(2,\)"),
        (np.zeros((0, 4)), None, None, r"not \(0, 4\)"),
        ([[1.0], [1.0, 2.0]], None, None, r"latents: must be an array of shape \(rows, latent_dim\)"),
        ([["a"]], None, None, "latents: must hold numbers"),
        ([[float("nan")]], None, None, "latents: must be finite"),
        ([[1e300]], None, None, "latents: must be finite"),
        (np.broadcast_to(np.float32(0), (MAX_ROWS + 1, 1)), None, None, "latents: must have at most"),
        (None, -1, 1, r"seed: must be a whole number in 0 \.\. 18446744073709551615, not -1"),
        (None, 2**64, 1, "seed: must be a whole number"),
        (None, 1.5, 1, "seed: must be a whole number.*, not 1.5"),
        (None, 0, 0, r"count: must be a whole number in 1 \.\. 1000000, not 0"),
        (None, 0, MAX_ROWS + 1, "count: must be a whole number"),
        (None, 0, "3", "count: must be a whole number.*, not '3'"),
    ],
)
def test_bad_latents_seeds_and_counts_are_refused_by_name(
    latents: object, seed: object, count: object, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        checked_rows(latents, seed, count)  # type: ignore[arg-type]  # wrong on purpose
