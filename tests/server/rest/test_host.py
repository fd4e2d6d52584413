"""Tests for server.rest.host: slow clients, TLS, and the order of start and stop."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.app import Server
from server.config import ServerConfig
from server.errors import StartupError
from server.rest import host
from tests.server.http.http_calls import connect, is_closed_by_the_server, read_all, read_until, tls_request
from tests.server.rest.conftest import ANY_PORT, Ask, Held, ask_server
from tests.server.scheduling.held_run import until
from tests.server.security.certificates import Authority

Start = Callable[..., Awaitable[Server]]


async def test_half_sent_requests_lock_nobody_out(start_server: Start) -> None:
    server = await start_server(http_address=ANY_PORT, max_connections=4)
    assert server.http_address is not None
    with ExitStack() as stack:
        slow = [
            stack.enter_context(await asyncio.to_thread(connect, server.http_address, b"GET /v1/mod")) for _ in range(8)
        ]
        assert (await ask_server(server, "/v1/models")).status == 200
        assert await asyncio.to_thread(is_closed_by_the_server, slow[0])


@pytest.mark.parametrize("sent", [b"", b"GET /v1/mod"])
async def test_a_request_that_does_not_come_is_given_up(
    start_server: Start, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "REQUEST_TIMEOUT_S", 0.05)
    server = await start_server(http_address=ANY_PORT)
    assert server.http_address is not None
    with await asyncio.to_thread(connect, server.http_address, sent) as connection:
        assert await asyncio.to_thread(is_closed_by_the_server, connection)


async def test_an_idle_connection_is_closed(start_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "IDLE_TIMEOUT_S", 0.05)
    server = await start_server(http_address=ANY_PORT)
    assert server.http_address is not None
    with await asyncio.to_thread(
        connect, server.http_address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    ) as connection:
        assert (await asyncio.to_thread(read_all, connection)).endswith(b"alive\n")


async def test_tls_covers_the_port(start_server: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    server = await start_server(http_address=ANY_PORT, tls_certificate=pair.certificate, tls_key=pair.key)
    assert server.http_address is not None
    assert server.rest_url == f"https://{server.http_address}"
    context = ssl.create_default_context(cafile=str(authority.roots))
    reply = await asyncio.to_thread(tls_request, server.http_address, "/v1/models/tiny/image.png", context)
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    large = await asyncio.to_thread(tls_request, server.http_address, "/v1/models/tiny/grid.png?n=1000", context)
    assert len(large.body) == int(large.headers["content-length"]) > 10_000


async def test_a_client_needs_a_certificate_if_the_server_names_authorities(
    start_server: Start, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair, own = authority.issue("server"), authority.issue("client")
    server = await start_server(
        http_address=ANY_PORT, tls_certificate=pair.certificate, tls_key=pair.key, tls_client_ca=authority.roots
    )
    assert server.http_address is not None
    context = ssl.create_default_context(cafile=str(authority.roots))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.to_thread(tls_request, server.http_address, "/v1/models/tiny/image.png", context)
    context.load_cert_chain(own.certificate, own.key)
    reply = await asyncio.to_thread(tls_request, server.http_address, "/v1/models/tiny/image.png", context)
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")


async def test_the_port_opens_only_when_the_models_are_loaded(config: ServerConfig) -> None:
    server = Server(replace(config, http_address=ANY_PORT))
    try:
        server.reserve()
        assert server.http_address is not None
        assert server.http_address.port != 0
        await server.core.load()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(connect, server.http_address)
        await server.listen()
        assert (await ask_server(server, "/readyz")).status == 200
    finally:
        await server.close()


@pytest.mark.parametrize("other", ["address", "metrics_address"])
async def test_a_port_that_is_taken_is_an_error_before_anything_loads(
    start_server: Start, config: ServerConfig, other: str
) -> None:
    taken = await start_server(http_address=ANY_PORT)
    server = Server(replace(config, http_address=getattr(taken, other)))
    with pytest.raises(StartupError, match=r"^--http-address: cannot listen on "):
        server.reserve()
    await server.close()


async def test_a_lame_duck_serves_and_says_so(api: Server, ask: Ask) -> None:
    await api.core.retire()
    assert (await ask("/readyz")).status == 503
    assert (await ask("/v2/health/ready")).status == 503
    reply = await ask("/v1/models/tiny/image.png")
    assert (reply.status, reply.headers["connection"]) == (200, "close")  # so that its client leaves


async def test_a_drain_finishes_requests_and_closes_connections(held: Callable[..., Awaitable[Held]]) -> None:
    request = await held()
    server = request.server
    assert server.http_address is not None
    idle = await asyncio.to_thread(connect, server.http_address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    upload = b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{"
    uploading = await asyncio.to_thread(connect, server.http_address, upload)
    with idle, uploading:
        assert b"alive" in await asyncio.to_thread(read_until, idle, b"alive")
        draining = asyncio.create_task(server.drain())
        request.run.release_all()
        await until_draining(server)
        assert (await asyncio.to_thread(read_all, request.connection)).startswith(b"HTTP/1.1 200 ")
        assert await asyncio.to_thread(is_closed_by_the_server, idle)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(connect, server.http_address)
        assert not draining.done()
        await asyncio.to_thread(uploading.sendall, b"}")
        assert (await asyncio.to_thread(read_all, uploading)).startswith(b"HTTP/1.1 200 ")
        assert await draining


async def until_draining(server: Server) -> None:
    while server.core.gate.state != "draining":  # noqa: ASYNC110 - a drain looks at the clock
        await asyncio.sleep(0.001)
    await until(lambda: server._stopping is not None)


async def test_a_drain_loses_no_request_under_load(api: Server, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.app._PATIENCE_S", 0.1)  # callers that never leave
    replies: list[int] = []

    async def load() -> None:
        while True:
            try:
                replies.append((await ask("/v1/models/tiny/grid.png?n=16")).status)
            except ConnectionRefusedError:
                return

    callers = [asyncio.create_task(load()) for _ in range(4)]
    while len(replies) < 20:  # noqa: ASYNC110 - they come from threads
        await asyncio.sleep(0.001)
    assert await api.drain()
    await asyncio.gather(*callers)
    assert set(replies) == {200}


async def test_a_stop_cuts_off_what_has_not_ended(held: Callable[..., Awaitable[Held]]) -> None:
    request = await held()
    assert request.server._rest_host is not None
    await request.server._rest_host.stop(0.01)
    assert await asyncio.to_thread(is_closed_by_the_server, request.connection)
    assert not request.server.core.gate.inside


async def test_without_starlette_the_error_says_what_to_install(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "server.rest.app", None)
    with pytest.raises(StartupError, match=r"^--http-address: needs Starlette .*pip install '\.\[http\]'"):
        Server(replace(config, http_address=ANY_PORT))


async def test_it_is_off_by_default(start_server: Callable[..., Any]) -> None:
    server = await start_server()
    assert (server.http_address, server.rest_url) == (None, None)
