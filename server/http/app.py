"""What the HTTP port answers: metrics and health, as an ASGI application."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted

from server.gate import Gate

MAX_SCRAPES: Final = 32  # waiting or in progress; fewer than connections, so that health is always answered
MAX_PAGES: Final = 8  # of metrics, being made or sent; bounds their memory
_METHODS: Final = ("GET", "HEAD")
_CHUNK_BYTES: Final = 64 << 10
_GZIP_LEVEL: Final = 1  # 9 takes 17 times as long for a page that is a fifth smaller
_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_Headers = list[tuple[str, str]]
_Scope = Mapping[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class Answer(NamedTuple):
    """An HTTP response."""

    status: HTTPStatus
    headers: _Headers
    body: bytes


class HttpApp:
    """An ASGI application with the paths of the HTTP port. Every answer closes its connection.

    Health is answered on the event loop, pages of metrics are made in the default executor of the loop.

    Args:
        registry: the metrics.
        gate: tells whether the server is ready.
    """

    def __init__(self, registry: CollectorRegistry, gate: Gate) -> None:
        self._registry = registry
        self._scrapes = 0
        self._pages = asyncio.Semaphore(MAX_PAGES)
        self._health = health_answers(gate)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answers one request; its body is not read."""
        path = scope["path"]
        if path != "/metrics" and path not in self._health:
            await _send(send, _text(HTTPStatus.NOT_FOUND, f"not found: use one of /metrics, {', '.join(self._health)}"))
        elif scope["method"] not in _METHODS:
            allow = ("Allow", ", ".join(_METHODS))
            await _send(send, _text(HTTPStatus.METHOD_NOT_ALLOWED, f"use {' or '.join(_METHODS)}", allow))
        elif path in self._health:
            await _send(send, self._health[path]())
        elif self._scrapes >= MAX_SCRAPES:
            refusal = "too many scrapes at once: try again"
            await _send(send, _text(HTTPStatus.SERVICE_UNAVAILABLE, refusal, ("Retry-After", "1")))
        else:
            self._scrapes += 1
            try:
                async with self._pages:
                    if not await _has_left(receive):
                        await _send(send, await asyncio.to_thread(self._metrics, scope))
            finally:
                self._scrapes -= 1

    def _metrics(self, scope: _Scope) -> Answer:
        try:
            encode, content_type = choose_encoder(_header(scope, "accept"))
        except (TypeError, ValueError):  # a version that is not a number
            encode, content_type = choose_encoder("")
        headers = [("Content-Type", content_type), ("Vary", "Accept, Accept-Encoding")]
        names = parse_qs(scope["query_string"].decode("latin-1")).get("name[]")
        body = encode(self._registry.restricted_registry(names) if names else self._registry)
        if gzip_accepted(_header(scope, "accept-encoding")):
            headers.append(("Content-Encoding", "gzip"))
            body = gzip.compress(body, _GZIP_LEVEL)
        return Answer(HTTPStatus.OK, headers, body)


def health_answers(gate: Gate) -> dict[str, Callable[[], Answer]]:
    """Returns what answers each path about health."""

    def ready_status() -> HTTPStatus:
        return HTTPStatus.OK if gate.is_ready else HTTPStatus.SERVICE_UNAVAILABLE

    return {
        "/healthz": lambda: _text(HTTPStatus.OK, "alive"),
        "/readyz": lambda: _text(ready_status(), gate.state),
        "/v2/health/live": lambda: _json(HTTPStatus.OK, {"live": True}),
        "/v2/health/ready": lambda: _json(ready_status(), {"ready": gate.is_ready}),
    }


def _header(scope: _Scope, name: str) -> str:
    return ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == name.encode())


async def _has_left(receive: _Receive) -> bool:
    """Whether the client has closed the connection."""
    try:
        async with asyncio.timeout(0):
            message = await receive()
            return bool(message["type"] == "http.disconnect")
    except TimeoutError:  # it is sending a body, which is not read
        return False


def _text(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, [("Content-Type", _TEXT), *headers], f"{text}\n".encode())


def _json(status: HTTPStatus, value: dict[str, bool]) -> Answer:
    return Answer(status, [("Content-Type", _JSON)], json.dumps(value).encode())


async def _send(send: _Send, answer: Answer) -> None:
    headers = [
        *answer.headers,
        ("Content-Length", str(len(answer.body))),
        ("Date", formatdate(usegmt=True)),
        ("Connection", "close"),
    ]
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status.value, "headers": encoded})
    # In chunks, because uvicorn waits before each one until the client has read enough of those before.
    for begin in range(0, len(answer.body), _CHUNK_BYTES):
        chunk = answer.body[begin : begin + _CHUNK_BYTES]
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
