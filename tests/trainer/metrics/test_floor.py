from __future__ import annotations

import pytest

from trainer.data.datasets import stream_indices
from trainer.metrics.floor import disjoint_sets


@pytest.mark.parametrize(("wanted", "count", "size"), [(5, 20, 5), (10, 20, 10), (12, 20, 10), (5, 9, 4), (5, 1, 0)])
def test_no_image_is_in_both_sets_and_each_has_at_most_half(wanted: int, count: int, size: int) -> None:
    ones, others = (chosen.tolist() for chosen in disjoint_sets(3, wanted, count))
    assert len(ones) == len(others) == size
    assert len({*ones, *others}) == 2 * size
    assert all(0 <= index < count for index in (*ones, *others))


def test_the_first_set_is_the_one_that_an_evaluation_with_this_seed_uses() -> None:
    assert disjoint_sets(3, 5, 20)[0].tolist() == stream_indices(3, 0, 5, 20).tolist()
