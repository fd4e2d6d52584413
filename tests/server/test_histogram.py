from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.statistics import LATENCY_BOUNDS_S, Histogram

VALUES = st.lists(st.sampled_from([*LATENCY_BOUNDS_S, 0.0, 3e-4, 99.0]) | st.floats(0, 100), max_size=50)


def test_latency_bounds_ascend() -> None:
    assert all(low < high for low, high in pairwise(LATENCY_BOUNDS_S))


@given(VALUES)
def test_buckets_count_values_up_to_their_bound(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    expected = [int(np.sum(np.array(values) <= bound)) for bound in LATENCY_BOUNDS_S]
    assert histogram.cumulative() == [*expected, len(values)]
    assert histogram.total == pytest.approx(sum(values))


@given(VALUES, VALUES)
def test_adding_is_counting_both(first: list[float], second: list[float]) -> None:
    one, other, both = Histogram(), Histogram(), Histogram()
    for histogram, values in ((one, first), (other, second), (both, [*first, *second])):
        for value in values:
            histogram.observe(value)
    one.add(other)
    assert one.cumulative() == both.cumulative()
    assert one.total == pytest.approx(both.total)


def test_a_value_can_count_several_times() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(2.0, 3)
    assert (histogram.cumulative(), histogram.total) == ([0, 3, 3], 6.0)


def test_histograms_of_other_bounds_cannot_be_added() -> None:
    with pytest.raises(ValueError, match="zip"):
        Histogram((1.0,)).add(Histogram((1.0, 2.0)))
