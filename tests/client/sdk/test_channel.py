from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client import AsyncGanClient, GanClient, InvalidRequest, ServerUnreachable
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


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_requests_that_a_server_refuses_or_cancels_are_sent_again(
    server: FakeServer, status: grpc.StatusCode
) -> None:
    server.failures.extend([(status, "not now")] * 4)
    with GanClient(server.address, timeout_s=20) as client:
        assert len(client.generate("dcgan")) == 1
        server.describe_failures.extend([(status, "not now")] * 4)
        assert client.describe("dcgan").ready
    server.failures.extend([(status, "not now")] * 4)
    async with AsyncGanClient(server.address, timeout_s=20) as client:
        assert len(await client.generate("dcgan")) == 1


@pytest.mark.usefixtures("quick_retries")
def test_health_checks_are_sent_again_too() -> None:
    class Flaky(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # untyped
        calls = 0

        def Check(  # noqa: N802  (gRPC's name)
            self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
        ) -> health_pb2.HealthCheckResponse:
            self.calls += 1
            if self.calls < 3:
                context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    server = FakeServer()
    server.health = Flaky()
    with server.serve(), GanClient(server.address, timeout_s=20) as client:
        assert client.healthy()
    assert server.health.calls == 3


def test_a_server_that_is_not_serving_gets_no_requests_while_another_one_is() -> None:
    first, second = FakeServer(), FakeServer()
    first.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    with first.serve(), second.serve(), GanClient([first.address, second.address], timeout_s=20) as client:
        for _ in range(20):
            client.generate("dcgan")
        assert (len(first.requests), len(second.requests)) == (0, 20)
        first.health.set("", health_pb2.HealthCheckResponse.SERVING)
        second.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        while not first.requests:
            client.generate("dcgan")


@pytest.mark.usefixtures("quick_retries")
def test_without_a_healthy_server_the_error_says_so() -> None:
    first, second = FakeServer(), FakeServer()
    for server in (first, second):
        server.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    with (
        first.serve(),
        second.serve(),
        GanClient([first.address, second.address], timeout_s=20) as client,
        pytest.raises(ServerUnreachable, match="their health is NOT_SERVING: they are starting or draining"),
    ):
        client.generate("dcgan")


def test_servers_without_a_health_service_are_balanced_all_the_same() -> None:
    first, second = FakeServer(), FakeServer()
    with (
        first.serve(has_health=False),
        second.serve(has_health=False),
        GanClient([first.address, second.address], timeout_s=20) as client,
    ):
        while not (first.requests and second.requests):
            client.generate("dcgan")


def test_servers_that_require_a_token_even_for_their_health_are_balanced() -> None:
    class Guarded(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # untyped
        def Watch(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> None:  # noqa: N802  (gRPC's name)
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")

    first, second = FakeServer(), FakeServer()
    first.health, second.health = Guarded(), Guarded()
    both = [first, second]
    with first.serve(), second.serve(), GanClient([s.address for s in both], timeout_s=20, token="abc") as client:
        while not (first.requests and second.requests):
            client.generate("dcgan")


async def test_a_unix_socket_is_an_address(tmp_path: Path) -> None:
    with FakeServer().serve(f"unix:{tmp_path / 'gan.sock'}") as server:
        with GanClient(server.address, token="abc") as client:  # never leaves this machine, so needs no TLS
            assert len(client.generate("dcgan")) == 1
            assert client.healthy()
        async with AsyncGanClient(server.address) as client:
            assert len(await client.generate("dcgan")) == 1
    assert server.authorizations[0] == "Bearer abc"
