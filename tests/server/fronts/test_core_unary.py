from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import grpc

from server.errors import InvalidRequest
from server.fronts.base import Call, Unary
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
