"""A message for Ray that is serialised already."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """Looks to Ray like a message of protobuf.

    Attributes:
        body: the serialised message.
    """

    body: bytes

    def SerializeToString(self) -> bytes:  # noqa: N802 - the name that Ray calls
        """Returns the bytes, without work."""
        return self.body
