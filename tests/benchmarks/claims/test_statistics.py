from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.claims.statistics import (
    Effect,
    Side,
    bootstrap_interval,
    difference,
    hedges_g,
    interval,
    judge,
    location,
    rank_difference,
    shown,
)

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6)


def test_hedges_g_matches_a_worked_example() -> None:
    # Means 5 and 2, both deviations 1, 4 degrees of freedom: d = 3, corrected by 1 - 3 / 15.
    assert hedges_g(np.array([4.0, 5.0, 6.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(3 * 0.8)


def test_constant_values_have_no_standardised_effect() -> None:
    assert hedges_g(np.array([1.0, 1.0]), np.array([2.0, 2.0])) is None
    assert location("constant", ("a", [1.0, 1.0, 1.0])).standardised is None


def test_with_three_seeds_the_interval_spans_all_values() -> None:
    low, high = bootstrap_interval([np.array([1.0, 2.0, 6.0])], lambda drawn: drawn.mean(-1))
    assert (low, high) == (1.0, 6.0)


def test_the_interval_covers_the_mean_about_95_percent_of_the_time() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        low, high = bootstrap_interval([generator.normal(size=8)], lambda drawn: drawn.mean(-1))
        covered += low <= 0 <= high
    assert 0.90 <= covered / 300 <= 0.99  # the plain percentile interval covers about 0.88


@given(VALUES, VALUES)
def test_a_difference_changes_sign_when_its_groups_are_swapped(first: list[float], second: list[float]) -> None:
    one = difference("d", ("a", first), ("b", second), "above")
    other = difference("d", ("b", second), ("a", first), "below")
    assert one.estimate == pytest.approx(-other.estimate)
    assert one.low <= one.estimate + 1e-9
    assert one.estimate <= one.high + 1e-9
    assert {one.verdict, other.verdict} != {"supported", "contradicted"}  # resampled: at the border they may differ


@given(VALUES)
def test_values_on_both_sides_of_the_reference_decide_nothing(values: list[float]) -> None:
    effect = location("l", ("a", [*values, *(-value for value in values)]), "above")
    assert effect.verdict == "unclear"


def test_groups_that_do_not_overlap_support_or_contradict() -> None:
    high, low = ("high", [5.0, 6.0, 7.0]), ("low", [1.0, 2.0, 3.0])
    assert difference("d", high, low, "above").verdict == "supported"
    assert difference("d", low, high, "above").verdict == "contradicted"
    assert difference("d", high, low, "above", reference=10.0).verdict == "contradicted"
    assert difference("d", high, low).verdict == "unclear"


def test_groups_of_three_that_overlap_are_unclear() -> None:
    assert difference("d", ("a", [5.0, 6.0, 2.9]), ("b", [1.0, 2.0, 3.0]), "above").verdict == "unclear"


def test_one_seed_decides_nothing() -> None:
    effect = difference("d", ("a", [100.0]), ("b", [1.0]), "above")
    assert math.isnan(effect.low)
    assert effect.verdict == "unclear"
    assert interval(effect) == "-"
    assert judge([effect]) == ("unclear", "a single seed has no spread, so it decides nothing")


def test_never_is_later_than_any_epoch() -> None:
    effect = rank_difference("r", ("fc", [math.inf, 50.0, math.inf]), ("dcgan", [2.0, 2.0, 3.0]), "above")
    assert (effect.estimate, effect.low, effect.verdict) == (1.0, 1.0, "supported")
    assert rank_difference("r", ("a", [math.inf] * 3), ("b", [math.inf] * 3), "above").verdict == "unclear"


def test_rank_biserial_counts_pairs() -> None:
    # Of four pairs, three are larger and one is smaller.
    assert rank_difference("r", ("a", [2.0, 4.0]), ("b", [1.0, 3.0])).estimate == pytest.approx(0.5)


@pytest.mark.parametrize("values", [[math.nan, 1.0, 2.0], [math.inf, 1.0, 2.0]])
def test_values_that_are_not_finite_decide_nothing(values: list[float]) -> None:
    with np.errstate(invalid="ignore"):
        assert difference("d", ("a", values), ("b", [0.0, 0.1, 0.2]), "above").verdict == "unclear"


def effect_that(word: str, claimed: Side | None = "above") -> Effect:
    values = {"supported": [1.0, 2.0, 3.0], "contradicted": [-1.0, -2.0, -3.0], "unclear": [-1.0, 0.0, 1.0]}
    return location(word, ("a", values[word]), claimed)


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        (("supported", "supported"), "supported"),
        (("supported", "unclear"), "unclear"),
        (("supported", "contradicted"), "unclear"),
        (("unclear", "contradicted"), "contradicted"),
        (("unclear",), "unclear"),
    ],
)
def test_a_claim_is_the_conjunction_of_its_deciding_effects(words: tuple[str, ...], verdict: str) -> None:
    reported = effect_that("contradicted", None)
    assert judge([*map(effect_that, words), reported])[0] == verdict


def test_a_group_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        location("l", ("empty", []))


def test_numbers_are_shown_with_three_digits() -> None:
    assert (shown(None), shown(math.nan), shown(math.inf), shown(0.123456)) == ("-", "-", "inf", "0.123")
