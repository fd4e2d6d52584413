"""The messages of failures, as gRPC reports them: each server below fails in its own way."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from client import (
    AccessDenied,
    AsyncGanClient,
    DeadlineExceeded,
    GanClient,
    GanClientError,
    InvalidRequest,
    ServerBusy,
    ServerFault,
    ServerUnreachable,
    UnknownModel,
    UnsupportedByServer,
)
from client.sdk.addresses import target_of
from client.sdk.channel import Endpoint
from client.sdk.failures import failure_of, local_failure
from tests.client.fake_server import FakeServer
from tests.client.raw_server import Talk, answers_http2, hangs_up, is_silent, raw_server, resets_streams, says

Code = grpc.StatusCode

pytestmark = pytest.mark.usefixtures("quick_retries")


class _Ended(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


def failure(address: str, *, timeout_s: float = 20) -> GanClientError:
    """Why a call to this address fails."""
    with GanClient(address, timeout_s=timeout_s) as client, pytest.raises(GanClientError) as raised:
        client.models()
    assert str(raised.value).isprintable()
    return raised.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Code.NOT_FOUND, UnknownModel),
        (Code.INVALID_ARGUMENT, InvalidRequest),
        (Code.OUT_OF_RANGE, InvalidRequest),
        (Code.RESOURCE_EXHAUSTED, ServerBusy),
        (Code.DEADLINE_EXCEEDED, DeadlineExceeded),
        (Code.INTERNAL, ServerFault),
        (Code.UNKNOWN, ServerFault),
        (Code.UNIMPLEMENTED, UnsupportedByServer),
        (Code.PERMISSION_DENIED, AccessDenied),
        (Code.UNAUTHENTICATED, AccessDenied),
    ],
)
def test_every_status_becomes_one_error_with_the_servers_text(
    server: FakeServer, client: GanClient, status: grpc.StatusCode, kind: type[GanClientError]
) -> None:
    server.failures.append((status, "the server's\n own \x1b[31mtext"))
    with pytest.raises(kind) as raised:
        client.generate("dcgan")
    assert type(raised.value) is kind
    assert "the server's own ?[31mtext" in str(raised.value)
    assert len(server.requests) == 1


def test_a_request_that_is_cancelled_on_the_way_in_every_attempt_may_succeed_later(
    server: FakeServer, client: GanClient
) -> None:
    server.failures.extend([(Code.CANCELLED, "no time")] * 5)
    with pytest.raises(ServerUnreachable, match=r"the request, and every retry \(no time\).* try again later"):
        client.generate("dcgan")
    assert len(server.requests) == 5


def test_a_busy_server_is_told_once_to_be_tried_again(server: FakeServer, client: GanClient) -> None:
    server.failures.append((Code.RESOURCE_EXHAUSTED, "the queue is full: try again after a pause"))
    with pytest.raises(ServerBusy, match=rf"^the server at {server.address} is busy: the queue is full: try again.*"):
        client.generate("dcgan")
    server.failures.append((Code.RESOURCE_EXHAUSTED, "the queue is full"))
    with pytest.raises(ServerBusy, match=r"is busy: the queue is full; try again later$"):
        client.generate("dcgan")


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (200, UnsupportedByServer, r"answers as a web server .*; name the address of the gRPC server"),
        (302, UnsupportedByServer, r"redirects as a web server does, for example to a login \(HTTP 302\)"),
        (400, UnsupportedByServer, r"it lacks a client certificate \(HTTP 400\); set --tls-key and --tls-certificate"),
        (405, UnsupportedByServer, r"answers as a web server \(HTTP 405\)"),
        (401, AccessDenied, r"requires a token \(HTTP 401\)"),
        (403, AccessDenied, r"denies access \(HTTP 403\)"),
        (404, UnsupportedByServer, r"does not know this service \(HTTP 404\); .* let the proxy pass gRPC on"),
        (413, InvalidRequest, r"refuses requests of this size \(HTTP 413\); .*client_max_body_size"),
        (429, ServerBusy, r"limits the rate of requests \(HTTP 429\); try again later"),
        (431, InvalidRequest, r"refuses headers of this size \(HTTP 431\)"),
        (500, ServerFault, r"failed \(HTTP 500\); look into its log"),
        (502, ServerUnreachable, r"reaches no gRPC server \(HTTP 502\); start one"),
        (503, ServerUnreachable, r"has no server that is ready \(HTTP 503\)"),
        (504, DeadlineExceeded, r"got no response in its own time limit \(HTTP 504\); raise that limit"),
    ],
)
def test_an_http_status_of_a_proxy_is_named_with_its_meaning(
    status: int, kind: type[GanClientError], message: str
) -> None:
    with raw_server(answers_http2(status)) as address:
        error = failure(address)
    assert type(error) is kind
    assert re.search(message, str(error)), error
    assert address in str(error)


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "it speaks HTTP/1, not gRPC: name the gRPC port"),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "it speaks HTTP/1, not gRPC: .* turn TLS on"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "another program has this port"),
        (says(b"\x15\x03\x01\x00\x02\x02\x46"), "it may be stopping, or require TLS"),
        (hangs_up, "it may be stopping, or require TLS"),
        (is_silent, "it accepts connections but says nothing"),
    ],
)
def test_a_server_that_is_not_grpc_is_recognised(talk: Talk, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.sdk.channel.CONNECT_TIMEOUT_S", 0.3)
    with raw_server(talk) as address:
        error = failure(address)
    assert type(error) is ServerUnreachable
    assert re.search(message, str(error)), error


@pytest.mark.parametrize(("code", "kind"), [(2, ServerFault), (7, ServerUnreachable), (8, ServerUnreachable)])
def test_a_stream_that_is_reset_is_a_fault_unless_it_was_refused_or_cancelled(
    code: int, kind: type[GanClientError]
) -> None:
    with raw_server(resets_streams(code)) as address:
        error = failure(address)
    assert type(error) is kind
    assert "RST_STREAM" in str(error)


def test_a_port_without_a_server_is_named(unused_port: int) -> None:
    error = failure(f"127.0.0.1:{unused_port}")
    assert type(error) is ServerUnreachable
    assert str(error).startswith(f"no server is ready at 127.0.0.1:{unused_port} (ipv4:127.0.0.1:{unused_port}: ")
    assert str(error).endswith("nothing listens there: start the server, or name another address")


def test_localhost_names_the_other_address_family(monkeypatch: pytest.MonkeyPatch, unused_port: int) -> None:
    with FakeServer().serve() as server:
        server.describe_failures.append((Code.UNIMPLEMENTED, "another server"))
        message = r"localhost is \[::1\] first: .* give 127\.0\.0\.1:\d+$"
        with (
            GanClient(f"localhost:{server.address.rpartition(':')[2]}") as client,
            pytest.raises(UnsupportedByServer, match=message),
        ):
            client.describe("dcgan")
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")  # not used for this machine, so not named
    assert "proxy" not in str(failure(f"localhost:{unused_port}"))


def test_a_name_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    error = failure("no-such-host.invalid:1")
    assert type(error) is ServerUnreachable
    assert "the name has no address: check its spelling" in str(error)


def test_a_socket_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = failure(f"unix:{tmp_path / 'none.sock'}")
    assert type(error) is ServerUnreachable
    assert "there is no such socket: start the server with this --address" in str(error)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_the_proxy_of_the_environment_is_named_without_its_password(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with raw_server(says(b"HTTP/1.1 403 Forbidden\r\n\r\n")) as proxy:
        monkeypatch.setenv(variable, f"http://user:secret@{proxy}")
        error = failure("192.0.2.1:50051")
    assert type(error) is ServerUnreachable
    assert f"the HTTP proxy refuses to connect to it; {variable} is set, so gRPC connects through" in str(error)
    assert f"the proxy {proxy} unless no_proxy names the server" in str(error)
    assert "secret" not in str(error)


def test_an_error_of_the_server_itself_blames_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    endpoint = Endpoint(target_of("gan.example.org:1"), 30)
    own = failure_of(_Ended(Code.INTERNAL, "a bug"), endpoint, is_connected=True)
    assert str(own) == "the server at gan.example.org:1 failed: INTERNAL: a bug"
    of_proxy = failure_of(_Ended(Code.UNKNOWN, "Received http2 header with status: 413"), endpoint, is_connected=True)
    assert "through the proxy proxy.example.org:3128 unless no_proxy" in str(of_proxy)


@contextlib.contextmanager
def full_listener() -> Iterator[str]:
    """An address at which packets get no answer: the queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield "{}:{}".format(*listener.getsockname())


def test_a_deadline_before_the_connection_is_no_fault_of_the_server() -> None:
    with full_listener() as address:
        error = failure(address, timeout_s=0.3)
    assert type(error) is ServerUnreachable
    assert str(error).startswith(f"no connection to {address} within 0.3 s; nothing answers there: check the address")


def test_an_attempt_to_connect_that_takes_too_long_names_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.sdk.channel.CONNECT_TIMEOUT_S", 0.2)
    with full_listener() as address:
        error = failure(address)
    assert type(error) is ServerUnreachable
    assert "packets to it get no answer: check the address, the network and its firewall" in str(error)


def test_a_deadline_tells_a_slow_server_from_one_that_may_be_gone(server: FakeServer) -> None:
    server.released.clear()
    with GanClient(server.address, timeout_s=0.3) as client, pytest.raises(DeadlineExceeded) as raised:
        client.generate("dcgan")
    assert str(raised.value) == (
        f"no response from {server.address} within 0.3 s; the server is still computing: raise the timeout, or request"
        " fewer images; or the connection is dead, which calls notice after 15 s"
    )


async def test_the_async_client_tells_them_apart_as_well(server: FakeServer) -> None:
    server.released.clear()
    async with AsyncGanClient(server.address, timeout_s=0.3) as client:
        with pytest.raises(DeadlineExceeded, match="still computing"):
            await client.generate("dcgan")
    with full_listener() as address:
        async with AsyncGanClient(address, timeout_s=0.3) as client:
            with pytest.raises(ServerUnreachable, match=r"no connection to .* within 0\.3 s"):
                await client.models()


def test_a_deadline_after_the_keepalive_means_that_the_server_computes() -> None:
    error = failure_of(
        _Ended(Code.DEADLINE_EXCEEDED, "Deadline Exceeded"), Endpoint(target_of("10.0.0.1:1"), 30), is_connected=True
    )
    assert "no response from 10.0.0.1:1 within 30 s; the connection is alive, so the server is still comp" in str(error)


def test_a_deadline_that_the_server_reports_keeps_its_text(server: FakeServer, client: GanClient) -> None:
    server.failures.append((Code.DEADLINE_EXCEEDED, "10 rows were ahead"))
    with pytest.raises(DeadlineExceeded, match=r"within 20 s \(10 rows were ahead\); raise the timeout"):
        client.generate("dcgan")


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (Code.NOT_FOUND, UnknownModel, "because of this"),
        (Code.INVALID_ARGUMENT, InvalidRequest, "because of this"),
        (Code.RESOURCE_EXHAUSTED, ServerBusy, "because of this; try again later"),
        (Code.DEADLINE_EXCEEDED, DeadlineExceeded, "no images within 5 s (because of this); raise the timeout, or"),
        (Code.UNAVAILABLE, ServerUnreachable, "because of this"),
        (Code.INTERNAL, ServerFault, "because of this"),
    ],
)
def test_a_refusal_in_the_same_process_has_the_kind_of_its_status(
    status: grpc.StatusCode, kind: type[GanClientError], text: str
) -> None:
    error = local_failure(status, "because\nof this", 5)
    assert type(error) is kind
    assert str(error).startswith(text)
    assert str(error).isprintable()
