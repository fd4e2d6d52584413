from __future__ import annotations

import socket

import pytest

from client.errors import InvalidRequest
from client.explore.page_server import HOST, Exposure, _is_foreign, listening_socket, needs_token


def test_the_page_listens_on_the_loopback_address_only() -> None:
    with listening_socket(0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_a_port_in_use_is_refused_by_number() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(InvalidRequest, match=r"^--port: \d+ cannot be used \(Address already in use\)"):
            listening_socket(taken.getsockname()[1])


@pytest.mark.parametrize(
    ("origin", "is_foreign"),
    [(None, False), (b"http://127.0.0.1:7860", False), (b"http://other.example", True), (b"null", True)],
)
def test_a_request_from_another_page_is_foreign(origin: bytes | None, is_foreign: bool) -> None:
    headers = [(b"host", b"127.0.0.1:7860")] + ([] if origin is None else [(b"origin", origin)])
    assert _is_foreign({"type": "http", "headers": headers}) is is_foreign


@pytest.mark.parametrize(
    ("host", "allowed", "is_needed"),
    [
        ("127.0.0.1", (), False),
        ("::1", (), False),
        ("localhost", ("localhost",), False),
        ("0.0.0.0", (), True),
        ("192.0.2.1", (), True),
        ("gpu.example.org", (), True),
        ("127.0.0.1", ("gpu.example.org",), True),
    ],
)
def test_a_page_that_other_machines_can_reach_needs_a_token(
    host: str, allowed: tuple[str, ...], is_needed: bool
) -> None:
    assert needs_token(host, allowed) is is_needed


def test_requests_are_for_own_and_allowed_host_names_only() -> None:
    assert Exposure().hosts == ["127.0.0.1", "localhost", "[::1]", "127.0.0.1"]
    assert "gpu.example.org" in Exposure(allowed_hosts=("gpu.example.org",)).hosts
    assert Exposure("0.0.0.0", token="t").hosts == ["*"]
