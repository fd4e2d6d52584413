"""How many calls a handler takes at once, and calls that never send a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from server.errors import PUSHBACK_KEY, NotAllowed
from server.fronts.base import Call, Methods, StreamCall
from server.gate import Gate
from server.metrics import Metrics
from server.models.catalog import Catalog
from server.request import InFlightRequest
from server.rpc.call_limit import RETRY_AFTER_MS
from server.rpc.handler import RequestHandler
from tests.server.fronts.served import FRONTS, served
from tests.server.scheduling.held_run import settle, until

UNARY, STREAM, UNGATED = "/test.Service/Generate", "/test.Service/Stream", "/test.Service/Live"
MAX_CALLS = 3


class Service:
    """Three methods of a handler that takes `MAX_CALLS` calls at once; they answer once `release` is set."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.gate.open()
        self.metrics = Metrics(Catalog(), self.gate)
        self.handler = RequestHandler(self.gate, self.metrics, max_calls=MAX_CALLS)
        self.release = asyncio.Event()
        self.address = ""

    @property
    def inside(self) -> int:
        return self.handler.call_limit.inside

    def methods(self) -> Methods:
        return {
            UNARY: self.handler.unary("Generate", self._answer),
            STREAM: self.handler.stream("Stream", self._answer_all),
            UNGATED: self.handler.unary("Live", self._answer_at_once, gated=False),
        }

    async def _answer(self, body: bytes, _: InFlightRequest) -> bytes:
        await self.release.wait()
        return body

    async def _answer_all(self, bodies: AsyncIterator[bytes], call: StreamCall) -> None:
        async for body in bodies:
            await self.release.wait()
            await call.write(body)

    async def _answer_at_once(self, body: bytes, _: InFlightRequest) -> bytes:
        return body

    def count(self, method: str, status: str, reason: str) -> tuple[float | None, float | None]:
        labels = {"model": "", "version": ""}
        value = self.metrics.registry.get_sample_value
        return (
            value("ganserve_requests_total", {**labels, "method": method, "status": status}),
            value("ganserve_rejections_total", {**labels, "reason": reason}),
        )


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def service(front: str) -> AsyncIterator[Service]:
    service = Service()
    async with served(service.methods(), front) as service.address:
        yield service


@pytest.fixture
async def channel(service: Service) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield channel


async def never() -> AsyncIterator[bytes]:
    """A client that opens a call and sends nothing."""
    while True:
        await asyncio.Event().wait()
        yield b""


async def refusal_of(call: Any) -> tuple[grpc.StatusCode, str | None, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    metadata: Any = refused.value.trailing_metadata()
    return refused.value.code(), refused.value.details(), dict(metadata).get(PUSHBACK_KEY)


Open = Callable[[Any], Any]


@pytest.mark.parametrize(
    "open_call",
    [
        pytest.param(lambda channel: channel.unary_unary(UNARY)(b"x"), id="waits for its answer"),
        pytest.param(lambda channel: channel.stream_unary(UNARY)(never()), id="sends nothing"),
        pytest.param(lambda channel: channel.stream_stream(STREAM)(never()), id="is a stream"),
    ],
)
async def test_calls_above_the_limit_are_refused_and_counted_until_one_ends(
    service: Service, channel: Any, open_call: Open
) -> None:
    calls = [open_call(channel) for _ in range(MAX_CALLS)]
    await until(lambda: service.inside == MAX_CALLS)
    for refused in (channel.unary_unary(UNARY)(b"x"), channel.stream_unary(STREAM)(never())):
        code, details, pushback = await refusal_of(refused)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details is not None
        assert f"answering {MAX_CALLS} requests" in details
        assert pushback == str(RETRY_AFTER_MS)
    assert service.count("Generate", "RESOURCE_EXHAUSTED", "queue_full") == (1, 2)
    assert service.count("Stream", "RESOURCE_EXHAUSTED", "queue_full") == (1, 2)
    calls[0].cancel()
    await until(lambda: service.inside == MAX_CALLS - 1)
    service.release.set()
    assert await channel.unary_unary(UNARY)(b"y", timeout=20) == b"y"
    for call in calls[1:]:
        call.cancel()
    await until(lambda: (service.inside, service.gate.inside) == (0, 0))


async def test_what_tells_whether_the_server_lives_is_answered_above_the_limit(service: Service, channel: Any) -> None:
    calls = [channel.unary_unary(UNARY)(b"x") for _ in range(MAX_CALLS)]
    await until(lambda: service.inside == MAX_CALLS)
    assert await channel.unary_unary(UNGATED)(b"live", timeout=20) == b"live"
    service.release.set()
    assert [await call for call in calls] == [b"x"] * MAX_CALLS


async def test_a_call_without_a_message_is_refused_and_counted(service: Service, channel: Any) -> None:
    for number in range(1, 6):
        code, details, _ = await refusal_of(channel.stream_unary(UNARY)(iter(()), timeout=20))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details is not None
        assert "ended without a message" in details
        assert service.count("Generate", "INVALID_ARGUMENT", "invalid") == (number, number)
    await until(lambda: service.inside == 0)


async def test_a_client_that_leaves_before_its_message_is_not_counted_as_invalid(
    service: Service, channel: Any
) -> None:
    for _ in range(200):
        call = channel.stream_unary(UNARY)()
        await asyncio.sleep(0)
        call.cancel()
    service.release.set()
    while await channel.unary_unary(UNARY)(b"y", timeout=20).code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        await settle()  # the server has not heard yet that the others left
    await until(lambda: (service.inside, service.gate.inside) == (0, 0))
    assert service.count("Generate", "OK", "") == (1, None)
    assert service.count("Generate", "INVALID_ARGUMENT", "invalid") == (None, None)


async def test_a_caller_without_a_token_is_refused_before_it_is_counted_or_sends_its_message(
    service: Service, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(method: str, call: Call) -> None:
        raise NotAllowed("show a token")

    monkeypatch.setattr(service.handler, "check_access", refuse)
    entered: list[None] = []
    monkeypatch.setattr(service.handler.call_limit, "enter", lambda: entered.append(None))
    for refused in (channel.stream_unary(UNARY)(never()), channel.stream_stream(STREAM)(never())):
        assert (await refused.code(), await refused.details()) == (grpc.StatusCode.PERMISSION_DENIED, "show a token")
    assert not entered
