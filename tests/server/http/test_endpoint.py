from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable

import pytest
import trustme

from server.config import Address
from server.http.endpoint import HttpEndpoint
from tests.server.http.http_calls import connect, is_closed_by_the_server, read_all, request, tls_request

Open = Callable[..., HttpEndpoint]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_it_answers_until_it_is_closed(open_endpoint: Open) -> None:
    endpoint = open_endpoint()
    assert endpoint.address.port
    assert request(endpoint.address, "/healthz").status == 200
    endpoint.close()
    with pytest.raises(ConnectionRefusedError):
        connect(endpoint.address)


def test_closing_drops_open_connections_and_ends_the_threads(open_endpoint: Open) -> None:
    before = set(threading.enumerate())
    endpoint = open_endpoint()
    request(endpoint.address, "/metrics")
    half_sent = connect(endpoint.address, b"GET /metr")
    request(endpoint.address, "/healthz")  # accepted after the half-sent one
    endpoint.close()
    assert is_closed_by_the_server(half_sent)
    assert set(threading.enumerate()) == before
    half_sent.close()


def test_a_port_in_use_is_an_os_error(endpoint: HttpEndpoint, open_endpoint: Open) -> None:
    with pytest.raises(OSError, match="in use"):
        HttpEndpoint(lambda: None, endpoint.address)  # type: ignore[arg-type]


def test_it_listens_on_ipv6(open_endpoint: Open) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert request(open_endpoint(host="::1").address, "/healthz").status == 200


def test_every_answer_closes_its_connection(endpoint: HttpEndpoint) -> None:
    with connect(endpoint.address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2) as connection:
        received = read_all(connection)
    assert received.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in received


def test_http_1_0_is_answered(endpoint: HttpEndpoint) -> None:
    with connect(endpoint.address, b"GET /readyz HTTP/1.0\r\n\r\n") as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nx\r\n\r\n"])
def test_what_is_not_http_gets_400(sent: bytes, endpoint: HttpEndpoint) -> None:
    with connect(endpoint.address, sent) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")


def test_headers_without_end_get_400(endpoint: HttpEndpoint) -> None:
    with connect(endpoint.address, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")


def test_over_tls_it_answers_and_takes_renewed_certificates(
    open_endpoint: Open, authority: trustme.CA, tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    endpoint = open_endpoint(tls=tls)
    assert tls_request(endpoint.address, "/readyz", client_tls).status == 200
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)  # of an authority that the client does not trust
    with pytest.raises(ssl.SSLCertVerificationError):
        tls_request(endpoint.address, "/readyz", client_tls)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    assert tls_request(endpoint.address, "/metrics", client_tls).status == 200


@pytest.mark.parametrize("encrypted", [False, True])
def test_aborted_connections_write_no_log(
    encrypted: bool, open_endpoint: Open, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = open_endpoint(tls=tls if encrypted else None)
    with caplog.at_level(logging.DEBUG):
        for sent in (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /metr", b"\x16\x03\x01\x02\x00\x01\x00", b""):
            for linger_s in (0, None):
                connection = connect(endpoint.address, sent)
                if linger_s is not None:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with RST
                connection.close()
        endpoint.close()
    assert [record.getMessage() for record in caplog.records if record.name != "asyncio"] == []
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_a_failing_application_is_logged_and_answers_500(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("a fault")

    endpoint = open_endpoint(fail)
    assert request(endpoint.address, "/metrics").status == 500
    assert "a fault" in caplog.text


def test_the_url_has_the_real_port_and_the_scheme(open_endpoint: Open, tls: ssl.SSLContext) -> None:
    plain, encrypted = open_endpoint(), open_endpoint(tls=tls)
    assert plain.address == Address("127.0.0.1", plain.address.port)
    assert plain.url == f"http://127.0.0.1:{plain.address.port}"
    assert encrypted.url == f"https://127.0.0.1:{encrypted.address.port}"
