"""An HTTP response of the API."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

import grpc

from server.errors import QueueFull, ServerError, Unavailable
from server.rest.refusal import Refusal

JSON: Final = "application/json"
PNG: Final = "image/png"
HTML: Final = "text/html; charset=utf-8"
BYTES: Final = "application/octet-stream"
STATUS_OF: Final[Mapping[grpc.StatusCode, HTTPStatus]] = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The HTTP status for each gRPC status that the server returns."""

STALL_S: Final = 30.0  # longest time in which a client reads nothing of its answer
_CHUNK_BYTES: Final = 256 << 10
_Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, eq=False)
class Reply:
    """An HTTP response.

    Attributes:
        parts: the body, in pieces that need not be joined.
        media_type: what it is.
        status: whether the request succeeded.
        headers: further ones.
    """

    parts: Sequence[bytes | memoryview]
    media_type: str = JSON
    status: HTTPStatus = HTTPStatus.OK
    headers: Sequence[tuple[str, str]] = field(default=())

    async def send(self, send: _Send) -> None:
        """Sends it through ASGI, at the pace of the client.

        Raises:
            TimeoutError: the client does not read it.
        """
        views = [memoryview(part).cast("B") for part in self.parts]
        headers = [
            ("content-type", self.media_type),
            ("content-length", str(sum(view.nbytes for view in views))),
            ("date", formatdate(usegmt=True)),
            ("x-content-type-options", "nosniff"),
            *self.headers,
        ]
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": self.status.value, "headers": encoded})
        chunks = [view[at : at + _CHUNK_BYTES] for view in views for at in range(0, view.nbytes, _CHUNK_BYTES)]
        for index, chunk in enumerate(chunks or [b""], 1):
            async with asyncio.timeout(STALL_S):
                await send({"type": "http.response.body", "body": chunk, "more_body": index < len(chunks)})


def json_reply(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Reply:
    """Returns a value as JSON."""
    return Reply([json.dumps(value, ensure_ascii=False).encode()], JSON, status)


def error_reply(error: ServerError) -> Reply:
    """Returns an error as JSON, with the status that fits it and the time after which to try again."""
    status = error.status if isinstance(error, Refusal) else STATUS_OF[error.code]
    headers = []
    if isinstance(error, QueueFull | Unavailable):
        after_ms = error.retry_after_ms if isinstance(error, QueueFull) else None
        headers.append(("retry-after", str(max(1, math.ceil((after_ms or 0) / 1000)))))
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append(("www-authenticate", "Bearer"))
    return Reply(json_reply({"error": str(error)}).parts, JSON, status, headers)
