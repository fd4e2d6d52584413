from __future__ import annotations

from collections.abc import Callable

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.commands.number_types import listed, number_of, whole_number


def outcome(parse: Callable[[str], float], text: str) -> float | str:
    """The number, or what is said instead."""
    try:
        return parse(text)
    except click.BadParameter as error:
        return error.message


@given(st.integers(-5, 5).map(str) | st.floats().map(str) | st.text(max_size=8))
def test_a_whole_number_is_read_or_refused_in_one_line(text: str) -> None:
    found = outcome(whole_number(-2, 3), text)
    if isinstance(found, str):
        assert found == f"must be a whole number in -2 .. 3, not {text!r}"
        assert text not in map(str, range(-2, 4))
    else:
        assert found == int(text)
        assert found in range(-2, 4)


@given(st.floats() | st.text(max_size=8))
def test_a_number_is_in_its_range_or_refused_in_one_line(value: float | str) -> None:
    found = outcome(number_of("seconds", 0.5, 2), str(value))
    if isinstance(found, str):
        assert found.startswith("must be seconds in 0.5 .. 2, not ")
        assert not isinstance(value, float) or not 0.5 <= value <= 2
    else:
        assert 0.5 <= found == float(value) <= 2


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_a_list_has_its_numbers_in_order(numbers: list[int]) -> None:
    assert listed(whole_number(0, 9), at_most=4)(" , ".join(map(str, numbers))) == tuple(numbers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a whole number in 0 .. 9, not ''"),
        ("1,,2", "must be a whole number in 0 .. 9, not ''"),
        ("1;2", "must be a whole number in 0 .. 9, not '1;2'"),
        ("1,2,3,4,5", "must be at most 4 numbers with commas between, not 5"),
    ],
)
def test_a_list_is_refused_by_its_first_fault(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        listed(whole_number(0, 9), at_most=4)(text)
    assert caught.value.message == message
