from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from server.http.endpoint import HttpEndpoint
from server.http.listener import MAX_CONNECTIONS
from tests.server.http.http_calls import connect, is_closed_by_the_server, request, tls_request

Open = Callable[..., HttpEndpoint]
NEVER_S = 3600.0


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server, and of a client that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
@pytest.mark.parametrize("encrypted", [False, True])
def test_half_sent_requests_take_few_descriptors_and_lock_nobody_out(
    encrypted: bool, open_endpoint: Open, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = tls
    endpoint = open_endpoint(tls=server if encrypted else None, request_timeout_s=NEVER_S)

    def is_ready() -> bool:
        address, path = endpoint.address, "/readyz"
        reply = tls_request(address, path, client) if encrypted else request(address, path)
        return reply.status == 200

    assert is_ready()
    before, count = open_descriptors(), 4 * MAX_CONNECTIONS
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connect(endpoint.address, b"" if encrypted else b"GET /metr"))
        assert is_ready()
        assert open_descriptors() - before - count <= MAX_CONNECTIONS + 8  # some are just being closed


def test_a_new_connection_replaces_the_one_that_waited_longest(open_endpoint: Open) -> None:
    endpoint = open_endpoint(max_connections=2, request_timeout_s=NEVER_S)
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(connect(endpoint.address, b"GET /re")) for _ in range(3))
        assert is_closed_by_the_server(first)
        third.sendall(b"adyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert third.recv(65536).startswith(b"HTTP/1.1 200")
        second.sendall(b"adyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert second.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"])
def test_a_request_that_does_not_arrive_in_time_is_dropped(sent: bytes, open_endpoint: Open) -> None:
    endpoint = open_endpoint(request_timeout_s=0.05)
    with connect(endpoint.address, sent) as connection:
        assert is_closed_by_the_server(connection)


def test_a_handshake_that_does_not_end_in_time_is_dropped(
    open_endpoint: Open, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    endpoint = open_endpoint(tls=tls[0], request_timeout_s=0.05)
    with connect(endpoint.address, b"\x16\x03\x01\x02\x00") as connection:
        assert is_closed_by_the_server(connection)


async def large_page(scope: object, receive: object, send: Callable[[dict[str, object]], object]) -> None:
    """Answers with more than the buffers of a connection hold."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})  # type: ignore[misc]
    await send({"type": "http.response.body", "body": bytes(64 << 20)})  # type: ignore[misc]


def test_an_answer_that_is_not_read_in_time_is_dropped(open_endpoint: Open) -> None:
    endpoint = open_endpoint(large_page, answer_timeout_s=0.05)
    with connect(endpoint.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        received = 0
        try:
            while chunk := connection.recv(1 << 16):
                received += len(chunk)
        except ConnectionResetError:
            pass
    assert received < 64 << 20


def test_connections_being_answered_are_not_replaced(open_endpoint: Open) -> None:
    endpoint = open_endpoint(large_page, max_connections=1, answer_timeout_s=NEVER_S)
    with connect(endpoint.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as answered:
        assert answered.recv(1)
        with connect(endpoint.address) as refused:
            assert is_closed_by_the_server(refused)
        received = 1
        while chunk := answered.recv(1 << 20):
            received += len(chunk)
    assert received > 64 << 20
