"""The types of flags whose values are numbers: one error for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

_Number = TypeVar("_Number", int, float)


def whole_number(smallest: int, largest: int) -> Callable[[str], int]:
    """The type of a flag whose value is a whole number in `smallest` .. `largest`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = smallest - 1
        if not smallest <= number <= largest:
            raise click.BadParameter(f"must be a whole number in {smallest} .. {largest}, not {text!r:.60}")
        return number

    return parse


def number_of(unit: str, smallest: float, largest: float) -> Callable[[str], float]:
    """The type of a flag whose value is a number in `smallest` .. `largest`; `unit` says of what, in the plural."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not smallest <= number <= largest:
            raise click.BadParameter(f"must be {unit} in {smallest:g} .. {largest:g}, not {text!r:.60}")
        return number

    return parse


def listed(parse: Callable[[str], _Number], at_most: int = 100) -> Callable[[str], tuple[_Number, ...]]:
    """The type of a flag whose value is 1 .. `at_most` numbers with commas between, each of which `parse` takes."""

    def parse_all(text: str) -> tuple[_Number, ...]:
        parts = text.split(",")
        if len(parts) > at_most:
            raise click.BadParameter(f"must be at most {at_most} numbers with commas between, not {len(parts)}")
        return tuple(parse(part.strip()) for part in parts)

    return parse_all
