"""Writes the frame of a large protobuf field by hand, so that an array goes into a message with a single copy."""

from __future__ import annotations

from typing import Final

_LENGTH_DELIMITED: Final = 2  # protobuf's wire type of bytes, strings and messages


def varint(number: int) -> bytes:
    """A number of at least 0 in protobuf's variable length."""
    if number < 0x80:
        return bytes((number,))
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def length_prefixed(field_number: int, size: int) -> bytes:
    """What comes before the `size` bytes of a field of bytes, text or a message: its tag and its length."""
    return varint(field_number << 3 | _LENGTH_DELIMITED) + varint(size)
