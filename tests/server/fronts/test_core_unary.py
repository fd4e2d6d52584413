from __future__ import annotations

import asyncio
import gc
import time
import weakref
from types import SimpleNamespace
from typing import Any

import grpc

from server.errors import InvalidRequest, ServerError
from server.fronts.base import Call, Unary
from server.fronts.core_unary import UnaryCoreCall
from tests.server.fronts.served import served

ECHO = "/test.Service/Echo"


async def test_a_call_frees_everything_without_the_garbage_collector() -> None:
    calls: list[weakref.ref[Any]] = []

    class Held:
        pass

    async def answer(body: bytes, call: Call) -> bytes:
        held = Held()
        calls.append(weakref.ref(held))
        call.add_done_callback(lambda: held)
        if body == b"wait":
            await asyncio.sleep(0)
        if body == b"fail":
            raise InvalidRequest("no")
        return body

    gc.disable()
    try:
        async with served({ECHO: Unary(answer)}, "core") as address, grpc.aio.insecure_channel(address) as channel:
            echo: Any = channel.unary_unary(ECHO)
            for body in (b"at once", b"wait", b"fail"):
                await echo(body, timeout=20).code()
        assert [call() for call in calls] == [None] * 3
    finally:
        gc.enable()


async def test_a_handler_that_is_cancelled_from_within_ends_its_call() -> None:
    async def give_up(_: bytes, __: Call) -> bytes:
        raise asyncio.CancelledError

    async with served({ECHO: Unary(give_up)}, "core") as address, grpc.aio.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(ECHO)
        assert await method(b"", timeout=20).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_call_whose_deadline_passed_before_it_was_taken_up_is_refused_before_its_message_is_received() -> None:
    started: list[list[str]] = []
    refused: list[grpc.StatusCode] = []

    def start_server_batch(operations: Any, _: object) -> int:
        started.append([type(operation).__name__ for operation in operations])
        return 0

    def record(_: Call, error: ServerError) -> None:
        refused.append(error.code)

    async def answer(_: bytes, __: Call) -> bytes:
        raise AssertionError("its message was received")

    for deadline in (time.time() - 1, time.time() + 60):
        event = SimpleNamespace(
            call=SimpleNamespace(start_server_batch=start_server_batch),
            call_details=SimpleNamespace(deadline=deadline),
            invocation_metadata=(),
        )
        method = Unary(answer, refused=record)
        UnaryCoreCall(event, method, asyncio.get_running_loop(), lambda *_: None, lambda _: None).receive()
    assert refused == [grpc.StatusCode.DEADLINE_EXCEEDED]
    assert started == [["SendInitialMetadataOperation", "SendStatusFromServerOperation"], ["ReceiveMessageOperation"]]
