from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engines.layouts import batch_sizes, padded_rows


@pytest.mark.parametrize(
    ("max_rows", "expected"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (48, (1, 2, 4, 8, 16, 32, 48)), (64, (1, 2, 4, 8, 16, 32, 64))],
)
def test_batch_sizes_are_powers_of_two_and_the_largest(max_rows: int, expected: tuple[int, ...]) -> None:
    assert batch_sizes(max_rows) == expected


@given(max_rows=st.integers(1, 5000), data=st.data())
def test_a_batch_is_padded_to_less_than_twice_its_rows(max_rows: int, data: st.DataObject) -> None:
    sizes = batch_sizes(max_rows)
    rows = data.draw(st.integers(1, max_rows))
    padded = padded_rows(rows, sizes)
    assert padded in sizes
    assert rows <= padded < 2 * rows
    assert list(sizes) == sorted(set(sizes))


@given(sizes=st.sets(st.integers(1, 100), min_size=1), rows=st.integers(1, 100))
def test_no_size_that_fits_is_smaller(sizes: set[int], rows: int) -> None:
    fitting = [size for size in sizes if size >= rows]
    if fitting:
        assert padded_rows(rows, sorted(sizes)) == min(fitting)
    else:
        with pytest.raises(ValueError, match=f"{rows} rows: this engine computes 1 to {max(sizes)}"):
            padded_rows(rows, sorted(sizes))


def test_a_batch_has_at_least_one_row() -> None:
    with pytest.raises(ValueError, match="a batch of 0 rows"):
        padded_rows(0, (1, 2))
    with pytest.raises(ValueError, match="at least 1 row"):
        batch_sizes(0)
