from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganserve.latents import latents_from_seed


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
    with pytest.raises(ValueError, match="seed must lie in"):
        latents_from_seed(seed, 1, 1)
