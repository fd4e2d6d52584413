"""Parses the fields of the page. Every error is one line that begins with the name of the field."""

from __future__ import annotations

import math
import re
from typing import Final

from client.errors import InvalidRequest

MAX_SEED: Final = 2**64 - 1
MAX_VALUE: Final = 1000.0  # of one coordinate of a latent; 99.9999 % of random ones lie within 5

_MAX_TEXT: Final = 2000  # characters
_SEPARATORS: Final = re.compile(r"[\s,;]+")


def seed_from(text: str) -> int:
    """Parses a seed.

    Raises:
        InvalidRequest: `text` is not a seed.
    """
    return _whole("seed", text.strip(), 0, MAX_SEED)


def dimensions_from(text: str, latent_dim: int, most: int) -> list[int]:
    """Parses dimensions of a latent, such as "5, 25", in their order and without duplicates.

    Raises:
        InvalidRequest: There are none or more than `most`, or one is outside 0 .. latent_dim - 1.
    """
    pieces = _pieces("dimensions", text, most)
    return list(dict.fromkeys(_whole("dimensions", piece, 0, latent_dim - 1) for piece in pieces))


def values_from(text: str, most: int) -> list[float]:
    """Parses values of a coordinate, such as "-3, 0, 3".

    Raises:
        InvalidRequest: There are none or more than `most`, or one is not a number or exceeds MAX_VALUE.
    """
    return [value_from("values", piece) for piece in _pieces("values", text, most)]


def value_from(name: str, value: object) -> float:
    """Parses a number in -MAX_VALUE .. MAX_VALUE, from text or from a slider.

    Raises:
        InvalidRequest: It is not such a number; the message begins with `name`.
    """
    try:
        number = float(value)  # type: ignore[arg-type]  # TypeError is handled
    except (TypeError, ValueError):
        number = math.nan
    if not abs(number) <= MAX_VALUE:  # refuses NaN too
        raise InvalidRequest(f"{name}: must be a number in {-MAX_VALUE:g} .. {MAX_VALUE:g}, not {value!r:.40}")
    return number


def whole_number_from(name: str, value: object, smallest: int, largest: int) -> int:
    """Parses a whole number from a number field, which may be empty.

    Raises:
        InvalidRequest: It is not in `smallest` .. `largest`; the message begins with `name`.
    """
    text = f"{value:.0f}" if isinstance(value, float) and value.is_integer() else "" if value is None else str(value)
    return _whole(name, text, smallest, largest)


def _pieces(name: str, text: str, most: int) -> list[str]:
    pieces = [piece for piece in _SEPARATORS.split(text[: _MAX_TEXT + 1]) if piece]
    if not pieces or len(pieces) > most or len(text) > _MAX_TEXT:
        raise InvalidRequest(f"{name}: give 1 .. {most} numbers, separated by commas, not {len(pieces) or 'none'}")
    return pieces


def _whole(name: str, text: str, smallest: int, largest: int) -> int:
    number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,20}", text) else smallest - 1
    if not smallest <= number <= largest:
        raise InvalidRequest(f"{name}: must be a whole number in {smallest} .. {largest}, not {text!r:.40}")
    return number
