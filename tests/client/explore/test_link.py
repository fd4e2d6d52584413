from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import InvalidRequest
from client.explore.link import Link, dimensions_with, link_from, link_to_model
from client.explore.tab import MAX_DIMENSIONS, MAX_SAMPLES

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
POSITIONS = st.integers(-400, 400).map(lambda hundredths: hundredths / 100)


@given(
    NAMES,
    st.integers(0, 2**64 - 1),
    st.integers(1, MAX_SAMPLES),
    st.integers(0, 20).map(lambda steps: steps / 20),
    st.dictionaries(st.integers(0, 9999), POSITIONS, max_size=MAX_DIMENSIONS),
    st.dictionaries(st.integers(1, 6), POSITIONS.filter(bool)),
)
def test_a_query_names_what_it_was_made_from(
    name: str, seed: int, count: int, truncation: float, dimensions: dict[int, float], directions: dict[int, float]
) -> None:
    link = Link(f"{name}:3", "explore", seed, count, truncation, count - 1, dimensions, directions)
    assert link_from(link.query()) == link


def test_defaults_and_unknown_parameters_are_left_out() -> None:
    assert Link("dcgan:3").query() == "?model=dcgan:3&seed=0"
    assert link_from("?model=dcgan:3&theme=dark&tab=nowhere") == Link("dcgan:3")
    assert link_from("?tab=morph").tab == "morph"
    assert link_from("") == Link()
    assert link_from(link_to_model("a&b:1")) == Link("a&b:1")


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("?seed=-1", "link, seed: must be a whole number"),
        ("?samples=145", "link, samples: must be a whole number in 1 .. 144"),
        ("?samples=4&sample=4", "link, sample: must be a whole number in 0 .. 3"),
        ("?truncation=2", "truncation: must be a number in 0 .. 1"),
        ("?z3=far", "link, z3: must be a number"),
        ("?" + "&".join(f"z{index}=1" for index in range(9)), "link: moves 9 dimensions; the limit is 8"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(query: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{complaint}"):
        link_from(query)


def test_moved_dimensions_get_sliders_before_those_of_the_field() -> None:
    assert dimensions_with(Link(dimensions={1: 2.0}), "5, 1", 6) == [5, 1]
    assert dimensions_with(Link(dimensions={0: 2.0, 1: 1.0}), "5, 1", 6) == [0, 1, 5]
    with pytest.raises(InvalidRequest, match=r"^link, dimension: must be a whole number in 0 .. 5, not '6'"):
        dimensions_with(Link(dimensions={6: 2.0}), "5, 1", 6)
