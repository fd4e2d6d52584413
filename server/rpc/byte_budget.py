"""Bounds the bytes of input that are in the server at once. For the event loop only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import QueueFull


class ByteBudget:
    """A number of bytes that requests reserve and release.

    Args:
        total_bytes: the most that may be reserved at once.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes that are reserved now."""
        return self._used_bytes

    @contextmanager
    def reserve(self, size_bytes: int) -> Iterator[None]:
        """Reserves bytes until the context exits.

        Raises:
            QueueFull: too few bytes are left.
        """
        if self._used_bytes + size_bytes > self._total_bytes:
            raise QueueFull(
                f"too much input waits ({self._used_bytes} of {self._total_bytes} bytes, {size_bytes} more do not fit):"
                " try again after a pause"
            )
        self._used_bytes += size_bytes
        try:
            yield
        finally:
            self._used_bytes -= size_bytes
