from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganserve.latents import DISTRIBUTIONS, latents_from_seed, latents_in_pieces

EVERY = st.sampled_from(DISTRIBUTIONS)


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ("normal", [[1.117622, -1.3871249, -0.4265716], [-0.80358726, 0.60142773, -0.074993245]]),
        ("uniform", [[0.7012484, 0.27392328, 0.022272944], [-0.4604267, -0.38434124, -0.91805303]]),
        ("sphere", [[0.6101526, -0.7572845, -0.23288175], [-0.79837817, 0.5975291, -0.07450712]]),
        ("truncated-normal", [[1.117622, -1.3871249, -0.4265716], [-0.80358726, 0.60142773, -0.074993245]]),
    ],
)
def test_the_meaning_of_a_seed_never_changes(distribution: str, expected: list[list[float]]) -> None:
    latents = latents_from_seed(0, 2, 3, distribution)
    np.testing.assert_array_equal(latents, np.array(expected, dtype=np.float32))


def test_the_default_is_normal() -> None:
    np.testing.assert_array_equal(latents_from_seed(0, 2, 3), latents_from_seed(0, 2, 3, "normal"))


# The variances follow from the definitions: 1/3 of U(-1, 1), 1/dim of a coordinate of a unit vector, and 0.7737 of
# N(0, 1) within two standard deviations (1 - 4 * pdf(2) / (2 * cdf(2) - 1)).
@pytest.mark.parametrize(
    ("distribution", "variance", "largest"),
    [("normal", 1.0, 6.0), ("uniform", 1 / 3, 1.0), ("sphere", 1 / 50, 1.0), ("truncated-normal", 0.7737, 2.0)],
)
def test_the_numbers_have_the_moments_of_their_distribution(distribution: str, variance: float, largest: float) -> None:
    latents = latents_from_seed(1, 20_000, 50, distribution)
    assert abs(latents.mean()) < 0.01
    assert latents.var() == pytest.approx(variance, rel=0.01)
    assert np.abs(latents).max() <= largest
    if distribution == "sphere":
        np.testing.assert_allclose(np.linalg.norm(latents, axis=1), 1, rtol=1e-5)


def test_truncated_numbers_are_the_normal_ones_without_those_beyond_two() -> None:
    normal = latents_from_seed(5, 1000, 3).ravel()
    within = normal[np.abs(normal) <= 2]
    assert len(within) < len(normal)
    np.testing.assert_array_equal(latents_from_seed(5, 900, 3, "truncated-normal").ravel(), within[:2700])


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of normal, uniform, sphere, truncated-normal, not 'cauchy'"):
        latents_from_seed(0, 1, 1, "cauchy")


@given(
    seed=st.integers(0, 2**64 - 1),
    count=st.integers(0, 40),
    more=st.integers(0, 40),
    dim=st.integers(1, 130),
    distribution=EVERY,
)
def test_a_larger_count_appends_rows_and_changes_none(
    seed: int, count: int, more: int, dim: int, distribution: str
) -> None:
    few = latents_from_seed(seed, count, dim, distribution)
    many = latents_from_seed(seed, count + more, dim, distribution)
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
    distribution=EVERY,
)
def test_pieces_equal_the_rows_drawn_at_once(
    seed: int, first_row: int, count: int, dim: int, max_piece_rows: int, distribution: str
) -> None:
    pieces = list(latents_in_pieces(seed, first_row, count, dim, max_piece_rows, distribution))
    whole = latents_from_seed(seed, first_row + count, dim, distribution)[first_row:]
    np.testing.assert_array_equal(np.concatenate([np.empty((0, dim), np.float32), *pieces]), whole)
    assert [len(piece) for piece in pieces[:-1]] == [max_piece_rows] * (len(pieces) - 1)
    assert all(1 <= len(piece) <= max_piece_rows and piece.dtype == np.float32 for piece in pieces)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_skipping_many_rows_in_pieces_does_not_change_the_rows(distribution: str) -> None:
    [piece] = latents_in_pieces(3, 300_000, 5, 2, 10, distribution)
    np.testing.assert_array_equal(piece, latents_from_seed(3, 300_005, 2, distribution)[-5:])


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
