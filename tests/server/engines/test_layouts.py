from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engines.layouts import (
    MAX_NARROW_INSTANCES,
    Layout,
    automatic_layout,
    batch_sizes,
    padded_rows,
    rows_within,
    seconds_for,
)


def test_the_automatic_layout_leaves_fewer_cores_idle_than_one_engine_uses() -> None:
    for cores in range(1, 65):
        layout = automatic_layout(cores)
        assert layout.engines <= MAX_NARROW_INSTANCES
        assert 0 <= cores - layout.engines * layout.threads < layout.threads
        assert layout.threads == 1 or cores > MAX_NARROW_INSTANCES


def test_cores_are_divided_among_the_engines() -> None:
    assert automatic_layout(5, engines=2) == Layout("onnx", "fp32", 2, 2)
    assert automatic_layout(2, engines=3) == Layout("onnx", "fp32", 3, 1)


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (Layout("onnx", "fp32", 1, 2), "1 engine x 2 threads"),
        (Layout("torchscript", "bf16", 2, 1), "2 bf16 engines x 1 thread"),
    ],
)
def test_a_layout_has_a_readable_name(layout: Layout, text: str) -> None:
    assert str(layout) == text


@given(
    times=st.dictionaries(st.integers(1, 64), st.floats(1e-6, 1.0), min_size=1).map(lambda t: dict(sorted(t.items()))),
    limit=st.floats(0, 2),
)
def test_rows_within_a_time_end_before_the_first_size_that_takes_longer(times: dict[int, float], limit: float) -> None:
    rows = rows_within(times, limit)
    assert all(seconds_for(times, fitting) <= limit for fitting in range(1, rows + 1))
    assert rows == max(times) or seconds_for(times, rows + 1) > limit


def test_times_are_interpolated_linearly_between_measured_sizes() -> None:
    times = {1: 1.0, 4: 4.0, 8: 16.0}
    assert [seconds_for(times, rows) for rows in (1, 2, 4, 6, 8, 16)] == pytest.approx([1, 2, 4, 10, 16, 32])


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
def test_a_batch_is_padded_to_the_smallest_size_that_fits(sizes: set[int], rows: int) -> None:
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
