"""Connections that carry nothing any more although nobody closed them, and networks that are slow."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from client import AsyncGanClient, DeadlineExceeded, GanClient, ServerUnreachable
from client.sdk.addresses import target_of
from client.sdk.channel import Endpoint
from tests.client.fake_server import FakeServer, model
from tests.client.relay import Relay


@pytest.fixture
def relay(server: FakeServer) -> Iterator[Relay]:
    with Relay(int(server.address.rpartition(":")[2])).serve() as running:
        yield running


@pytest.fixture
def quick_keepalive(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keepalive(monkeypatch, 0.3, 0.5)


def set_keepalive(monkeypatch: pytest.MonkeyPatch, pings_after_s: float, ping_timeout_s: float) -> None:
    monkeypatch.setattr(Endpoint, "pings_after_s", pings_after_s)
    monkeypatch.setattr(Endpoint, "ping_timeout_s", ping_timeout_s)


@pytest.mark.usefixtures("quick_keepalive")
@pytest.mark.parametrize("channels", [1, 2])
def test_a_call_on_a_forgotten_connection_is_answered_on_a_new_one(relay: Relay, channels: int) -> None:
    with GanClient(relay.address, timeout_s=20, channels=channels) as client:
        for _ in range(channels):
            client.generate("dcgan")
        relay.forget()
        assert len(client.generate("dcgan", seed=0, count=600)) == 600
    assert relay.connections > channels


@pytest.mark.usefixtures("quick_keepalive")
async def test_a_call_of_the_async_client_is_answered_on_a_new_connection_too(relay: Relay) -> None:
    async with AsyncGanClient(relay.address, timeout_s=20) as client:
        await client.generate("dcgan")
        relay.forget()
        assert len(await client.generate("dcgan")) == 1


def test_calls_shorter_than_the_keepalive_notice_it_together(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keepalive(monkeypatch, 1.5, 0.3)
    with GanClient(relay.address, timeout_s=1) as client:
        calls_until_answered(client)
        relay.forget()
        assert 1 < calls_until_answered(client) < 10


def calls_until_answered(client: GanClient) -> int:
    for number in range(1, 50):
        try:
            client.models()
        except (DeadlineExceeded, ServerUnreachable):
            continue
        return number
    raise AssertionError("never answered")


def test_a_new_client_does_not_use_the_connection_of_another(relay: Relay) -> None:
    with GanClient(relay.address, timeout_s=20) as old, GanClient(relay.address, timeout_s=5) as new:
        old.generate("dcgan")
        relay.forget()
        assert len(new.generate("dcgan")) == 1


def test_a_connection_may_take_several_slow_round_trips(server: FakeServer) -> None:
    port = int(server.address.rpartition(":")[2])
    with Relay(port, delay_s=0.9).serve() as relay, GanClient(relay.address, timeout_s=60) as client:
        assert len(client.models()) == 2


def test_a_large_response_on_a_slow_network_is_not_taken_for_a_dead_connection(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keepalive(monkeypatch, 0.5, 1.0)
    server.models = [model(height=256, width=256, channels=3)]
    port = int(server.address.rpartition(":")[2])
    with Relay(port, delay_s=0.15).serve() as relay, GanClient(relay.address, timeout_s=60) as client:
        assert len(client.generate("dcgan", seed=0, count=10)) == 10  # 2 MB, at most 440 KB/s
    assert (len(server.requests), relay.connections) == (1, 1)


@pytest.mark.parametrize(
    ("timeout_s", "pings_after_s", "ping_timeout_s"),
    [(1, 10, 5), (30, 10, 5), (60, 20, 10), (360, 120, 60), (86_400, 310, 60)],
)
def test_half_of_the_deadline_is_left_when_a_dead_connection_is_noticed(
    timeout_s: float, pings_after_s: float, ping_timeout_s: float
) -> None:
    endpoint = Endpoint(target_of("10.0.0.1:1"), timeout_s)
    assert (endpoint.pings_after_s, endpoint.ping_timeout_s) == (pings_after_s, ping_timeout_s)
    assert endpoint.notices_after_s == pings_after_s + ping_timeout_s
    [options] = [dict(each) for each in endpoint._options()]
    assert options["grpc.keepalive_time_ms"] == 1000 * pings_after_s
    assert options["grpc.http2.ping_timeout_ms"] == 1000 * ping_timeout_s


def test_idle_connections_are_not_pinged() -> None:
    [options] = Endpoint(target_of("10.0.0.1:1"), 30)._options()
    names = [name for name, _ in options]
    assert len(names) == len(set(names))
    assert not [name for name in names if re.search("permit_without_calls|max_pings_without_data", name)]
