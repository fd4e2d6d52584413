from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.app import Server
from server.config import Address
from tests.server.http.http_calls import Reply, connect, request
from tests.server.scheduling import held_run
from tests.server.scheduling.held_run import HeldRun
from tests.server.tiny_bundles import publish_tiny_translator

ANY_PORT = Address("127.0.0.1", 0)
StartServer = Callable[..., Any]
Ask = Callable[..., Awaitable[Reply]]


@pytest.fixture
async def api(start_server: StartServer, repository: Path) -> Server:
    """A server of "tiny" and "tiny-a2b" with the HTTP API."""
    publish_tiny_translator(repository)
    started: Server = await start_server(http_address=ANY_PORT, model_control="explicit")
    return started


async def ask_server(
    server: Server, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, method: str = ""
) -> Reply:
    """Sends GET, or POST if there is a body."""
    assert server.http_address is not None
    chosen = method or ("GET" if body is None else "POST")
    return await asyncio.to_thread(request, server.http_address, path, chosen, headers, body or b"")


@pytest.fixture
def ask(api: Server) -> Ask:
    """Asks `api`."""

    async def ask_api(path: str, body: bytes | None = None, **options: Any) -> Reply:
        return await ask_server(api, path, body, **options)

    return ask_api


def error_of(reply: Reply) -> str:
    """The text of an error."""
    assert reply.headers["content-type"] == "application/json"
    body = json.loads(reply.body)
    assert list(body) == ["error"]
    return str(body["error"])


def unsent_bytes(server: Server) -> float:
    """The bytes that the server counts as not sent."""
    value = server.core.metrics.registry.get_sample_value("ganserve_unsent_bytes")
    assert value is not None
    return value


class Held:
    """A request that a test holds in the engine of a server, and answers with black images."""

    def __init__(self, server: Server, run: HeldRun, connection: socket.socket) -> None:
        self.server = server
        self.run = run
        self.connection = connection


@pytest.fixture
async def held(
    api: Server, hold: Callable[[Server], HeldRun], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Awaitable[Held]]]:
    """Sends a request for an image, which the engine of `api` computes until the test releases it."""
    monkeypatch.setattr(held_run, "answers", lambda inputs, _: {"pixels": np.zeros((len(inputs), 4, 6, 3), np.uint8)})
    run, connections = hold(api), []

    async def send(headers: str = "") -> Held:
        assert api.http_address is not None
        head = f"GET /v1/models/tiny/image.png HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()
        connections.append(await asyncio.to_thread(connect, api.http_address, head))
        await run.started()
        return Held(api, run, connections[-1])

    yield send
    for connection in connections:
        connection.close()
