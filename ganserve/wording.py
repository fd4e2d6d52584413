"""Puts numbers into sentences."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is 1: "1 row", "2,000 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
