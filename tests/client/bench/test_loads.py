from __future__ import annotations

import itertools
import math
from typing import TypeVar

import pytest

from client.bench.loads import OpenLoad, due_times_s

_Result = TypeVar("_Result")

SERVICE_S = 0.125  # exact in binary, like all times here


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert list(due_times_s(OpenLoad(1, 4, "constant"), 1.0)) == [0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_the_given_rate_and_exponential_gaps() -> None:
    """Exponential gaps: the standard deviation equals the mean, and a fraction 1/e of the gaps exceeds it."""
    due_s = list(due_times_s(OpenLoad(1, 100, "poisson"), 200.0))
    assert len(due_s) == pytest.approx(20_000, abs=5 * math.sqrt(20_000))
    gaps_s = [later - sooner for sooner, later in itertools.pairwise(due_s)]
    mean_s = sum(gaps_s) / len(gaps_s)
    deviation_s = math.sqrt(sum((gap_s - mean_s) ** 2 for gap_s in gaps_s) / len(gaps_s))
    assert deviation_s == pytest.approx(mean_s, rel=0.05)
    assert sum(gap_s > mean_s for gap_s in gaps_s) / len(gaps_s) == pytest.approx(1 / math.e, abs=0.02)


def test_arrivals_are_deterministic() -> None:
    load = OpenLoad(1, 50, "poisson")
    assert list(due_times_s(load, 3.0)) == list(due_times_s(load, 3.0))
