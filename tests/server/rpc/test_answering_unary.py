from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from server.errors import QueueFull, ServerError
from server.gate import Gate
from server.metrics import Metrics
from server.models.catalog import Catalog
from server.request import InFlightRequest
from server.rpc.handler import PUSHBACK_KEY, Behaviour, RequestHandler
from tests.server.behaviours import REFUSALS, TOLD, failing
from tests.server.scheduling.held_run import settle, until


@pytest.fixture
def gate() -> Gate:
    gate = Gate()
    gate.open()
    return gate


@pytest.fixture
def handler(gate: Gate) -> RequestHandler:
    return RequestHandler(gate, Metrics(Catalog()))


Serve = Callable[..., Any]
LARGE = 64 << 20  # more than a connection takes in before anyone reads


@pytest.fixture
async def call_unary(handler: RequestHandler) -> AsyncIterator[Serve]:
    """Starts a server of one method, and returns what calls it."""
    opened: list[tuple[grpc.aio.Server, grpc.aio.Channel]] = []

    async def serve(behaviour: Behaviour, *, read_later: bool = False, **more: Any) -> Any:
        server = grpc.aio.server()
        handlers = {"Generate": handler.unary("Generate", behaviour, **more)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1)])
        opened.append((server, channel))
        return (channel.unary_stream if read_later else channel.unary_unary)("/test.Service/Generate")

    yield serve
    for server, channel in opened:
        await channel.close()
        await server.stop(None)


async def test_a_unary_request_leaves_the_gate_once_its_answer_is_sent(call_unary: Serve, gate: Gate) -> None:
    inside: list[int] = []

    async def look(body: bytes, _: InFlightRequest) -> bytes:
        inside.append(gate.inside)
        return body

    assert await (await call_unary(look))(b"body") == b"body"
    assert inside == [1]
    await until(lambda: gate.inside == 0)


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_unary_answer_is_counted_until_it_is_read_or_its_caller_leaves(
    call_unary: Serve, handler: RequestHandler, gate: Gate, leaves: bool
) -> None:
    async def make(body: bytes, _: InFlightRequest) -> bytes:
        return body * LARGE

    call = (await call_unary(make, read_later=True))(b"x")
    await until(lambda: handler.unsent_bytes == LARGE)
    await asyncio.gather(*(settle() for _ in range(20)))
    assert (handler.unsent_bytes, gate.inside) == (LARGE, 1)
    if leaves:
        call.cancel()
    else:
        assert len(await call.read()) == LARGE
    await until(lambda: (handler.unsent_bytes, gate.inside) == (0, 0))


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
async def test_a_unary_refusal_is_sent_with_its_status_and_remedy(
    call_unary: Serve, gate: Gate, error: ServerError
) -> None:
    call = await call_unary(failing(error))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"")
    assert (raised.value.code(), raised.value.details()) == (error.code, str(error))
    await until(lambda: gate.inside == 0)


@pytest.mark.parametrize(("retry_after_ms", "sent"), [(250, "250"), (0, "0"), (None, None)])
async def test_a_full_queue_says_when_to_come_back(
    call_unary: Serve, retry_after_ms: int | None, sent: str | None
) -> None:
    call = await call_unary(failing(QueueFull("full", retry_after_ms)))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"")
    assert dict(raised.value.trailing_metadata()).get(PUSHBACK_KEY) == sent


async def test_a_unary_fault_tells_nothing(call_unary: Serve, caplog: pytest.LogCaptureFixture) -> None:
    call = await call_unary(failing(RuntimeError("secret")))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"", metadata=[("x-request-id", "r-17")])
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INTERNAL, TOLD)
    assert ("server.rpc.handler", logging.ERROR, "Generate failed (request 'r-17')") in caplog.record_tuples


async def test_a_unary_deadline_reaches_the_behaviour(call_unary: Serve) -> None:
    async def tell(_: bytes, request: InFlightRequest) -> bytes:
        return repr(request.deadline - asyncio.get_running_loop().time()).encode()

    call = await call_unary(tell)
    assert 0 < float(await call(b"", timeout=60)) < 61
    assert await call(b"") == b"inf"
