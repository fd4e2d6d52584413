"""A table of named variants: the choices in command lines, error messages and tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from trainer.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to entries, in insertion order; `kind` is the flag that chooses one."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> None:
        """Adds an entry.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"{self._kind} {name!r} is registered twice")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> T:
        """Returns the entry.

        Raises:
            UserError: there is no such entry; the message lists the names.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise UserError(f"--{self._kind} {name!r}: choose one of {', '.join(self._entries)}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
