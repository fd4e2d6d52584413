"""Encodes the tag and length of a large protobuf field by hand, so that an array is copied only once."""

from __future__ import annotations

from typing import Final

_LENGTH_DELIMITED: Final = 2  # protobuf's wire type of bytes, strings and messages


def varint(number: int) -> bytes:
    """Encodes a non-negative number in protobuf's variable-length format."""
    if number < 0x80:
        return bytes((number,))
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def length_prefixed(field_number: int, size: int) -> bytes:
    """Returns what precedes the `size` bytes of a bytes, string or message field: its tag and its length."""
    return varint(field_number << 3 | _LENGTH_DELIMITED) + varint(size)
