from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import GanClientError, InvalidRequest
from client.explore.fields import dimensions_from, seed_from, value_from, values_from, whole_number_from


@given(st.integers(0, 2**64 - 1))
def test_every_seed_is_read_without_loss(seed: int) -> None:
    assert seed_from(f" {seed} ") == seed


@given(st.lists(st.integers(0, 99), min_size=1, max_size=8, unique=True), st.sampled_from([",", ", ", " ", ";\n"]))
def test_dimensions_keep_their_order(dimensions: list[int], separator: str) -> None:
    assert dimensions_from(separator.join(map(str, dimensions)), 100, 8) == dimensions


def test_duplicate_dimensions_are_dropped() -> None:
    assert dimensions_from("5, 3, 5", 6, 8) == [5, 3]


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=16))
def test_values_keep_their_order(values: list[float]) -> None:
    assert values_from(", ".join(map(repr, values)), 16) == values


def complaint_of(read: Callable[[str], object], text: str) -> str:
    try:
        read(text)
    except GanClientError as error:
        return str(error)
    return ""


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused_in_one_line(text: str) -> None:
    for read in (seed_from, lambda text: dimensions_from(text, 9, 4), lambda text: values_from(text, 4)):
        assert complaint_of(read, text).isprintable()


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: seed_from(""), "seed: must be a whole number in 0 .. 18446744073709551615, not ''"),
        (lambda: seed_from(str(2**64)), "seed: must be"),
        (lambda: seed_from("٣"), "seed: must be"),
        (lambda: seed_from("9" * 5000), "seed: must be"),
        (lambda: dimensions_from("1, 6", 6, 8), "dimensions: must be a whole number in 0 .. 5, not '6'"),
        (lambda: dimensions_from(" , ", 6, 8), "dimensions: give 1 .. 8 numbers, separated by commas, not none"),
        (lambda: dimensions_from("1,2,3", 6, 2), "dimensions: give 1 .. 2 numbers, separated by commas, not 3"),
        (lambda: dimensions_from("1 " * 5000, 6, 8), "dimensions: give"),
        (lambda: values_from("1, nan", 4), "values: must be a number in -1000 .. 1000, not 'nan'"),
        (lambda: values_from("-1e4", 4), "values: must be a number in -1000 .. 1000"),
        (lambda: value_from("dimension 3", None), "dimension 3: must be a number in -1000 .. 1000, not None"),
        (lambda: value_from("dimension 3", [1]), "dimension 3: must be"),
        (lambda: whole_number_from("samples", None, 1, 9), "samples: must be a whole number in 1 .. 9, not ''"),
        (lambda: whole_number_from("samples", 2.5, 1, 9), "samples: must be"),
    ],
)
def test_a_mistake_names_the_field(call: object, complaint: str) -> None:
    assert callable(call)
    with pytest.raises(InvalidRequest, match=re.escape(complaint)):
        call()


def test_a_number_field_may_give_whole_numbers_as_floats() -> None:
    assert whole_number_from("samples", 9.0, 1, 9) == 9
