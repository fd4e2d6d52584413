"""One row of the table of the HTTP API: an operation, in the words of OpenAPI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from google.protobuf.message import Message

from server.errors import InvalidRequest
from server.limits import quote
from server.rest.parameter import Parameter
from server.rest.reply import JSON, Reply
from server.rest.sent import Sent, Value

Write: TypeAlias = Callable[[bytes], Reply]
"""Makes the HTTP response from the serialised answer; may raise `InvalidRequest`."""


@dataclass(frozen=True)
class Operation:
    """A method and a path, and the method of a gRPC service that answers them.

    Attributes:
        method: GET or POST.
        path: with the parameters in braces.
        rpc: the path of the method that answers, for example /ganserve.v1.Generator/Generate.
        summary: one line about it.
        read: makes the request message, and what will make the HTTP response; raises `InvalidRequest`.
        parameters: of the path and the query.
        takes: the JSON schema of the body by media type; empty without a body.
        gives: the media types of the response.
        is_slow: whether making the response takes long for a small answer, too.
    """

    method: str
    path: str
    rpc: str
    summary: str
    read: Callable[[Sent], tuple[Message, Write]]
    parameters: Sequence[Parameter] = ()
    takes: Mapping[str, Any] = field(default_factory=dict)
    gives: Sequence[str] = (JSON,)
    is_slow: bool = False

    def values(self, path: Mapping[str, str], query: Sequence[tuple[str, str]]) -> dict[str, Value]:
        """Returns the values of all parameters.

        Args:
            path: the texts in the path.
            query: the names and texts in the query.

        Raises:
            InvalidRequest: one is unknown, sent twice, or has a wrong value.
        """
        values: dict[str, Value] = {
            parameter.name: parameter.default for parameter in self.parameters if parameter.default is not None
        }
        known = {parameter.name: parameter for parameter in self.parameters}
        seen = set()
        for name, text in [*path.items(), *query]:
            if name not in known or (name not in path and known[name].default is None):
                takes = ", ".join(parameter.name for parameter in self.parameters if parameter.name not in path)
                remedy = f"use {takes}" if takes else "leave it out"
                raise InvalidRequest(f"unknown parameter {quote(name)} in the query: {remedy}")
            if name in seen:
                raise InvalidRequest(f"{name} is sent twice: send it once")
            seen.add(name)
            values[name] = known[name].parse(text)
        return values
