"""A parameter of the path or the query of an operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from server.errors import InvalidRequest
from server.limits import quote
from server.rest.sent import Value

_BOOLEANS = {"true": True, "false": False}
_MAX_DIGITS = 20


@dataclass(frozen=True)
class Parameter:
    """A parameter of an operation, as OpenAPI describes it.

    Attributes:
        name: its name.
        text: what it means.
        kind: its type.
        default: its value if it is not sent; None in a path, where it must be.
        minimum: the least integer.
        maximum: the largest integer.
    """

    name: str
    text: str
    kind: Literal["integer", "string", "boolean"] = "string"
    default: Value | None = None
    minimum: int = 0
    maximum: int = 2**64 - 1

    def parse(self, text: str) -> Value:
        """Returns the value of a text.

        Raises:
            InvalidRequest: it is not of this kind, or out of range.
        """
        if self.kind == "string":
            return text
        if self.kind == "boolean":
            if text not in _BOOLEANS:
                raise InvalidRequest(f"{self.name} is {quote(text)}: send true or false")
            return _BOOLEANS[text]
        if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS:
            value = int(text)
            if self.minimum <= value <= self.maximum:
                return value
        raise InvalidRequest(f"{self.name} is {quote(text)}: send a whole number of {self.minimum} to {self.maximum}")

    def schema(self) -> dict[str, Any]:
        """Returns its JSON schema."""
        schema: dict[str, Any] = {"type": self.kind}
        if self.kind == "integer":
            schema |= {"minimum": self.minimum, "maximum": self.maximum}
        if self.default is None:
            schema["minLength"] = 1
        elif self.default != "":
            schema["default"] = self.default
        return schema
