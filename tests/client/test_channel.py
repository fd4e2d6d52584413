from __future__ import annotations

import pytest

from client import GanClient, InvalidRequest
from client.channel import check_address
from tests.client.fake_server import FakeServer


@pytest.mark.parametrize(
    "address",
    ["localhost:1", "127.0.0.1:50051", "[::1]:65535", "gan-server.example.org:80", "dns:///gan:80", "unix:/tmp/a"],
)
def test_good_addresses_pass(address: str) -> None:
    assert check_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        ":1",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:9999999999",
        "localhost:x",
        "::1:1",
        "[::1]",
        "[gan]:1",
        "http://localhost:1",
        "a b:1",
        "localhost:1\n",
        "localhost:\u0661",
        "unix:",
        "dns:///",
        "-a:1",
    ],
)
def test_bad_addresses_are_refused_with_an_example(address: str) -> None:
    with pytest.raises(InvalidRequest, match=r"address .*: give HOST:PORT .* for example 127\.0\.0\.1:50051"):
        GanClient(address)


def test_a_server_of_this_machine_is_reached_whatever_proxy_is_set(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with GanClient(server.address) as client:
        assert [model.name for model in client.models()] == ["dcgan", "a2b"]
