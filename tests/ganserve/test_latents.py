from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganserve.latents import latents_from_seed, latents_in_pieces


def test_the_meaning_of_a_seed_never_changes() -> None:
    latents = latents_from_seed(0, 2, 3)
    expected = [[1.117622, -1.3871249, -0.4265716], [-0.80358726, 0.60142773, -0.074993245]]
    np.testing.assert_array_equal(latents, np.array(expected, dtype=np.float32))


@given(seed=st.integers(0, 2**64 - 1), count=st.integers(0, 40), more=st.integers(0, 40), dim=st.integers(1, 130))
def test_a_larger_count_appends_rows_and_changes_none(seed: int, count: int, more: int, dim: int) -> None:
    few, many = latents_from_seed(seed, count, dim), latents_from_seed(seed, count + more, dim)
    assert few.dtype == np.float32
    np.testing.assert_array_equal(few, many[:count])


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed must be in"):
        latents_from_seed(seed, 1, 1)


@given(
    seed=st.integers(0, 2**64 - 1),
    first_row=st.integers(0, 40),
    count=st.integers(0, 40),
    dim=st.integers(1, 130),
    max_piece_rows=st.integers(1, 50),
)
def test_pieces_equal_the_rows_drawn_at_once(
    seed: int, first_row: int, count: int, dim: int, max_piece_rows: int
) -> None:
    pieces = list(latents_in_pieces(seed, first_row, count, dim, max_piece_rows))
    whole = latents_from_seed(seed, first_row + count, dim)[first_row:]
    np.testing.assert_array_equal(np.concatenate([np.empty((0, dim), np.float32), *pieces]), whole)
    assert [len(piece) for piece in pieces[:-1]] == [max_piece_rows] * (len(pieces) - 1)
    assert all(1 <= len(piece) <= max_piece_rows and piece.dtype == np.float32 for piece in pieces)


def test_skipping_many_rows_in_pieces_does_not_change_the_rows() -> None:
    [piece] = latents_in_pieces(3, 300_000, 5, 2, 10)
    np.testing.assert_array_equal(piece, latents_from_seed(3, 300_005, 2)[-5:])


def test_pieces_of_a_billion_rows_need_memory_for_one_piece() -> None:
    pieces = latents_in_pieces(0, 0, 1_000_000_000, 100, 4)
    np.testing.assert_array_equal(next(pieces), latents_from_seed(0, 4, 100))


@pytest.mark.parametrize("arguments", [(-1, 1, 1, 1), (0, -1, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0)])
def test_pieces_out_of_range_are_refused(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 0"):
        next(latents_in_pieces(0, *arguments))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_pieces_of_a_seed_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed must be in"):
        next(latents_in_pieces(seed, 0, 1, 1, 1))
