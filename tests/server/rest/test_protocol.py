"""Tests for server.rest.protocol: connections carry any number of requests."""

from __future__ import annotations

import asyncio
import http.client

from server.app import Server
from tests.server.http.http_calls import connect, is_closed_by_the_server, read_all

GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def ask_thrice(server: Server) -> list[int]:
    assert server.http_address is not None
    connection = http.client.HTTPConnection(server.http_address.host, server.http_address.port, timeout=20)
    statuses = []
    for path in ("/v1/models", "/nothing", "/v1/models/tiny/image.png"):
        connection.request("GET", path)
        first = connection.sock
        response = connection.getresponse()
        response.read()
        assert connection.sock is first  # it was not closed
        statuses.append(response.status)
    connection.close()
    return statuses


async def test_one_connection_carries_many_requests(api: Server) -> None:
    assert await asyncio.to_thread(ask_thrice, api) == [200, 404, 200]


async def test_requests_that_come_together_are_answered_in_order(api: Server) -> None:
    assert api.http_address is not None
    sent = GET + GET.replace(b"/v1/models", b"/nothing") + LAST
    with await asyncio.to_thread(connect, api.http_address, sent) as connection:
        answers = await asyncio.to_thread(read_all, connection)
    assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


async def test_what_is_not_http_is_refused(api: Server) -> None:
    assert api.http_address is not None
    with await asyncio.to_thread(connect, api.http_address, b"\x16\x03\x01 nonsense\r\n\r\n") as connection:
        assert (await asyncio.to_thread(read_all, connection)).startswith(b"HTTP/1.1 400 ")


async def test_a_client_of_http_1_0_is_answered_once(api: Server) -> None:
    assert api.http_address is not None
    with await asyncio.to_thread(connect, api.http_address, b"GET /healthz HTTP/1.0\r\n\r\n") as connection:
        assert (await asyncio.to_thread(read_all, connection)).endswith(b"alive\n")
        assert is_closed_by_the_server(connection)
