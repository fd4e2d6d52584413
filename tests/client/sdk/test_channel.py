from __future__ import annotations

import grpc
import pytest

from client import GanClient, InvalidRequest, ServerUnreachable
from tests.client.fake_server import FakeServer


def test_a_server_on_this_machine_is_reached_without_the_proxy(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with GanClient(server.address) as client:
        assert [model.name for model in client.models()] == ["dcgan", "a2b"]
    with GanClient([server.address, "127.0.0.1:1"]) as client:
        assert len(client.models()) == 2


def test_two_servers_take_turns() -> None:
    first, second = FakeServer(), FakeServer()
    with first.serve(), second.serve(), GanClient([first.address, second.address], timeout_s=20) as client:
        while not (first.requests and second.requests):  # once both are connected, they take turns
            client.generate("dcgan")
        before = len(first.requests), len(second.requests)
        for _ in range(10):
            client.generate("dcgan")
        after = len(first.requests), len(second.requests)
    assert (after[0] - before[0], after[1] - before[1]) == (5, 5)


@pytest.mark.usefixtures("quick_retries")
def test_if_one_of_two_servers_is_gone_the_other_answers_all_requests() -> None:
    first, second = FakeServer(), FakeServer()
    with second.serve():
        with first.serve():
            client = GanClient(f"{first.address},{second.address}", timeout_s=20)
            client.generate("dcgan", seed=0, count=1000)
        answered = len(second.requests)
        for _ in range(10):
            assert len(client.generate("dcgan", seed=0, count=2)) == 2
        assert len(second.requests) == answered + 10
    with client, pytest.raises(ServerUnreachable, match=f"no server is ready at {first.address},{second.address}"):
        client.generate("dcgan")


def test_requests_refused_by_a_draining_server_go_to_the_other() -> None:
    first, second = FakeServer(), FakeServer()
    first.failures.extend([(grpc.StatusCode.UNAVAILABLE, "draining")] * 100)
    with first.serve(), second.serve(), GanClient([first.address, second.address], timeout_s=20) as client:
        while not first.requests:
            assert len(client.generate("dcgan", seed=0, count=300)) == 300
    assert second.requests


def test_several_channels_do_not_share_a_connection() -> None:
    server = FakeServer()
    with server.serve(), GanClient(server.address, channels=3) as client:
        for _ in range(6):
            client.generate("dcgan")
    assert len(server.peers) == 3


@pytest.mark.parametrize("channels", [0, -1, 65, 1.5, "2"])
def test_the_number_of_channels_is_validated(channels: int) -> None:
    with pytest.raises(InvalidRequest, match=r"channels: must be a whole number in 1 \.\. 64"):
        GanClient(channels=channels)


def test_the_first_call_after_a_server_returns_succeeds() -> None:
    server = FakeServer()
    with server.serve():
        client = GanClient(server.address, timeout_s=5)
        client.models()
    for _ in range(2):  # gRPC waits longer each time before it connects again
        with pytest.raises(ServerUnreachable):
            client.models()
    with client, server.serve(server.address):
        assert len(client.models()) == 2
