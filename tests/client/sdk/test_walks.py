from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from client.errors import InvalidRequest
from client.sdk.walks import linear, spherical, traversal, walk

Vector = NDArray[np.float32]

numbers = st.floats(-100, 100, width=32)
fractions = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Vector, Vector]:
    dim = draw(st.integers(1, 6))
    return draw(arrays(np.float32, dim, elements=numbers)), draw(arrays(np.float32, dim, elements=numbers))


@given(pairs())
def test_both_ends_are_exact(pair: tuple[Vector, Vector]) -> None:
    for method in (spherical, linear):
        made = method(*pair, [0, 1, 0])
        assert made.dtype == np.float32
        np.testing.assert_array_equal(made, [pair[0], pair[1], pair[0]])


@given(pairs(), fractions)
def test_lengths_are_between_those_of_the_ends(pair: tuple[Vector, Vector], at: list[float]) -> None:
    shorter, longer = sorted(float(np.linalg.norm(end.astype(float))) for end in pair)
    start, end = (vector.astype(float) for vector in pair)
    angle = abs(math.atan2(np.linalg.norm(np.outer(start, end) - np.outer(end, start)) / math.sqrt(2), start @ end))
    assume(shorter == 0 or len(start) > 1)  # there is no way around the origin on a line
    for length in np.linalg.norm(spherical(*pair, at).astype(float), axis=1):
        assert length <= longer * (1 + 1e-6) + 1e-30
        if angle > 1e-3 and shorter > 1e-30:
            assert length >= shorter * (1 - 1e-6)


@given(st.floats(0.01, math.pi - 0.01), st.floats(0.01, 100), fractions)
def test_vectors_of_one_length_turn_by_equal_angles(angle: float, length: float, at: list[float]) -> None:
    end = [length * math.cos(angle), length * math.sin(angle)]
    expected = [[length * math.cos(t * angle), length * math.sin(t * angle)] for t in at]
    np.testing.assert_allclose(spherical([length, 0], end, at), expected, rtol=1e-4, atol=1e-5 * length)


@given(st.floats(0.1, 10), st.floats(0.1, 10), fractions)
def test_at_a_right_angle_the_weights_are_cosine_and_sine(first: float, last: float, at: list[float]) -> None:
    expected = [[first * math.cos(t * math.pi / 2), last * math.sin(t * math.pi / 2)] for t in at]
    np.testing.assert_allclose(spherical([first, 0], [0, last], at), expected, rtol=1e-5, atol=1e-6)


def test_gaussian_latents_keep_their_length_where_a_straight_line_shrinks_it() -> None:
    start, end = np.random.default_rng(0).standard_normal((2, 100))
    middle = [0.5]
    typical = math.sqrt(100)
    assert np.linalg.norm(linear(start, end, middle)) < 0.8 * typical
    assert abs(np.linalg.norm(spherical(start, end, middle)) / typical - 1) < 0.1


@given(st.floats(-100, 100), fractions)
def test_zero_and_parallel_vectors_are_joined_by_a_straight_line(scale: float, at: list[float]) -> None:
    end = np.array([1.0, 2.0, -2.0])
    np.testing.assert_allclose(spherical([0, 0, 0], end, at), np.outer(at, end), rtol=1e-6, atol=1e-30)
    np.testing.assert_array_equal(spherical([0, 0, 0], [0, 0, 0], at), np.zeros((len(at), 3)))
    assume(scale > 0.01)
    expected = np.outer([(1 - t) + t * scale for t in at], end)
    np.testing.assert_allclose(spherical(end, scale * end, at), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(linear(end, -scale * end, at), np.outer([1 - t - t * scale for t in at], end), atol=1e-4)


@given(arrays(np.float32, 5, elements=st.floats(-3, 3, width=32)), st.floats(0.1, 10), fractions)
def test_opposite_vectors_are_joined_by_half_a_turn(start: Vector, scale: float, at: list[float]) -> None:
    length = float(np.linalg.norm(start))
    assume(length > 0.1)
    made = spherical(start, -np.float32(scale) * start, at).astype(float)
    lengths = [(1 - t) * length + t * scale * length for t in at]
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), lengths, rtol=1e-5)
    cosines = made @ start.astype(float) / (np.linalg.norm(made, axis=1) * length)
    np.testing.assert_allclose(cosines, [math.cos(math.pi * t) for t in at], atol=1e-5)


@pytest.mark.parametrize("offset", [1e-4, 1e-5, 1e-6, 1e-7, 0.0])
def test_nearly_opposite_vectors_of_different_lengths_stay_bounded(offset: float) -> None:
    made = spherical([1, 0, 0], [-2, offset, 0], np.linspace(0, 1, 41))
    lengths = np.linalg.norm(made.astype(float), axis=1)
    assert lengths.min() >= 1 - 1e-6
    assert lengths.max() <= 2 + 1e-6


@given(pairs(), fractions)
def test_a_line_is_the_weighted_mean(pair: tuple[Vector, Vector], at: list[float]) -> None:
    expected = [[(1 - t) * float(a) + t * float(b) for a, b in zip(*pair, strict=True)] for t in at]
    np.testing.assert_allclose(linear(*pair, at), expected, rtol=1e-6, atol=1e-30)


@given(st.integers(2, 4), st.integers(2, 5), st.booleans(), st.sampled_from(["spherical", "linear"]))
def test_a_walk_passes_every_anchor_once(anchors: int, steps: int, loop: bool, method: Any) -> None:
    stops = np.random.default_rng(anchors).standard_normal((anchors, 7)).astype(np.float32)
    points = walk(stops, steps, method, loop=loop)
    legs = anchors if loop else anchors - 1
    assert points.shape == (legs * (steps - 1) + (not loop), 7)
    np.testing.assert_array_equal(points[:: steps - 1], stops)
    between = spherical if method == "spherical" else linear
    expected = between(stops[0], stops[1], np.linspace(0, 1, steps))
    np.testing.assert_allclose(points[:steps], expected[: len(points)], rtol=1e-5, atol=1e-6)
    if loop:
        back = between(stops[-1], stops[0], np.linspace(0, 1, steps))[:-1]
        np.testing.assert_allclose(points[-steps + 1 :], back, rtol=1e-5, atol=1e-6)


@given(
    rows=st.integers(1, 4),
    dimensions=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    values=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=3),
)
def test_a_traversal_sets_one_coordinate_of_every_latent(rows: int, dimensions: list[int], values: list[float]) -> None:
    latents = np.random.default_rng(0).standard_normal((rows, 6)).astype(np.float32)
    expected = []
    for dimension in dimensions:
        for value in values:
            for latent in latents:
                changed = latent.copy()
                changed[dimension] = value
                expected.append(changed)
    made = traversal(latents, dimensions, values)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, expected)


def test_the_callers_latents_are_not_modified() -> None:
    latents = np.ones((2, 3), np.float32)
    traversal(latents, [1], [5])
    walk(latents, 3)
    np.testing.assert_array_equal(latents, np.ones((2, 3)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spherical([1, 2], [1, 2, 3], [0]), "start and end: must have the same size, not 2 and 3"),
        (lambda: linear([], [], [0]), "start and end: must have the same size"),
        (lambda: spherical([1], [2], [1.01]), r"fractions: must be in 0 \.\. 1"),
        (lambda: spherical([1], [2], [-0.01]), r"fractions: must be in 0 \.\. 1"),
        (lambda: linear([1], [2], [math.nan]), "fractions: must be finite"),
        (lambda: linear([math.inf], [2], [0]), "start: must be finite"),
        (lambda: linear([1], [1e39], [0]), "end: must be finite as float32"),
        (lambda: linear([[1]], [2], [0]), "start: must have 1 dimension"),
        (lambda: linear(["a"], [2], [0]), "start: must be numbers"),
        (lambda: walk([[1, 2]], 3), "anchors: must be at least 2"),
        (lambda: walk([[1, 2], [3]], 3), "anchors: must be numbers in rows of the same size"),
        (lambda: walk([[1], [2]], 1), "steps: must be at least 2"),
        (lambda: walk([[1], [2]], 3, "cubic"), "method: must be 'spherical' or 'linear', not 'cubic'"),  # type: ignore[arg-type]
        (lambda: walk([[1], [2]], 1 << 40), "anchors and steps: 1099511627776 latents of 1 numbers are too many"),
        (lambda: traversal([[1, 2]], [2], [0]), r"dimensions: 2 is not a dimension of these latents, 0 \.\. 1"),
        (lambda: traversal([[1, 2]], [-1], [0]), "dimensions: -1 is not a dimension"),
        (lambda: traversal([[1, 2]], [0.5], [0]), "dimensions: must be whole numbers"),  # type: ignore[list-item]
        (lambda: traversal([[1, 2]], ["1"], [0]), "dimensions: must be whole numbers"),  # type: ignore[list-item]
        (lambda: traversal([[1, 2]], [], [0]), "at least one of each"),
        (lambda: traversal([[1, 2]], [0], [math.nan]), "values: must be finite"),
    ],
)
def test_invalid_arguments_are_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
