"""An HTTP request of the API, once it has arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Value = int | str | bool


@dataclass(frozen=True, eq=False)
class Sent:
    """What a client sent.

    Attributes:
        values: the parameters of the path and the query, with defaults.
        headers: by name, in lower case.
        body: the content; empty once it is read.
    """

    values: Mapping[str, Value]
    headers: Mapping[str, str]
    body: bytes = b""

    def text(self, name: str) -> str:
        """Returns a parameter that is a text."""
        return str(self.values[name])

    def number(self, name: str) -> int:
        """Returns a parameter that is an integer."""
        return int(self.values[name])
