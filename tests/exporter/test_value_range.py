from __future__ import annotations

import re

import pytest
import torch

from exporter.value_range import describe_range


def warnings_of(low: float, high: float, value_min: float = -1.0, value_max: float = 1.0, **flags: bool) -> list[str]:
    images = torch.linspace(low, high, 1000).reshape(10, 1, 10, 10)
    _, *warnings = describe_range(images, value_min, value_max, **({"declared": True} | flags))
    return warnings


def test_the_range_is_always_said() -> None:
    images = torch.tensor([[[[-0.5, 0.25]]]])
    assert describe_range(images, -1, 1, declared=True) == [
        "images of 1 random rows have values in -0.5 .. 0.25; pixels 0 and 255 stand for -1 and 1"
    ]


@pytest.mark.parametrize(
    ("low", "high", "declared", "words"),
    [
        (0.0, 1.0, (-1.0, 1.0), "no value is below 0, .* if the network ends in a sigmoid, add --value-range 0 1$"),
        (0.2, 1.4, (-1.0, 1.0), "no value is below 0, .* is --value-range right"),
        (150.0, 250.0, (0.0, 255.0), r"no value is below 127.5, .* is --value-range right\?$"),
        (
            -1.0,
            1.0,
            (0.0, 1.0),
            r"50% of the values are outside 0 \.\. 1, .* if that is .*, add --value-range -1 1$",
        ),
    ],
)
def test_a_range_that_does_not_fit_is_doubted(
    low: float, high: float, declared: tuple[float, float], words: str
) -> None:
    (warning,) = warnings_of(low, high, *declared)
    assert re.search(words, warning)
    assert warning.startswith("warning: ")


@pytest.mark.parametrize(
    ("low", "high", "declared"),
    [
        (-1.0, 1.0, (-1.0, 1.0)),
        (-0.01, 1.0, (-1.0, 1.0)),
        (0.0, 1.0, (0.0, 1.0)),
        (-1.05, 1.05, (-1.0, 1.0)),  # without tanh, in places
    ],
)
def test_a_range_that_fits_is_not_doubted(low: float, high: float, declared: tuple[float, float]) -> None:
    assert warnings_of(low, high, *declared) == []


def test_a_run_is_not_doubted_because_it_has_no_flag_for_its_range() -> None:
    assert warnings_of(0.0, 1.0, declared=False) == []
