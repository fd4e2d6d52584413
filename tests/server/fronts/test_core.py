from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from server.fronts.base import Call, Unary
from server.fronts.core import CoreFront
from server.fronts.core_unary import UnaryCoreCall
from tests.server.fronts.served import served

ECHO = "/test.Service/Echo"


async def echo(body: bytes, _: Call) -> bytes:
    return body


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "grpc-core"]


async def test_its_thread_ends_with_it() -> None:
    front = CoreFront({}, (), 1)
    await front.start()
    assert len(threads()) == 1
    await front.stop(None)
    for thread in threading.enumerate():
        if thread.name == "grpc-core":
            await asyncio.to_thread(thread.join, 20)
    assert not threads()


async def test_an_error_while_answering_together_is_logged_and_calls_are_answered_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: Sequence[bytes], __: Sequence[Call]) -> list[bytes | None]:
        raise RuntimeError("unforeseen")

    method = Unary(echo, answer_together=fail)
    async with served({ECHO: method}, "core") as address, grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(ECHO)
        assert await asyncio.gather(*(call(b"x", timeout=60) for _ in range(300))) == [b"x"] * 300
    assert "unforeseen" in caplog.text


async def test_an_event_that_cannot_be_handled_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receive = UnaryCoreCall.receive

    def fail_once(self: UnaryCoreCall) -> None:
        monkeypatch.setattr(UnaryCoreCall, "receive", receive)
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(UnaryCoreCall, "receive", fail_once)
    async with served({ECHO: Unary(echo)}, "core") as address, grpc.aio.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(ECHO)
        assert await method(b"x", timeout=0.5).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await method(b"y", timeout=20) == b"y"
    assert "unforeseen" in caplog.text


async def test_the_loop_serves_others_while_calls_keep_coming() -> None:
    async with served({ECHO: Unary(echo)}, "core") as address, grpc.aio.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(ECHO)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await asyncio.gather(*(method(b"x", timeout=60) for _ in range(900)))
        counting.cancel()
        assert turns > 10


async def test_no_call_is_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    fronts: list[CoreFront] = []
    make = CoreFront.__init__

    def remember(self: CoreFront, *arguments: Any) -> None:
        fronts.append(self)
        make(self, *arguments)

    monkeypatch.setattr(CoreFront, "__init__", remember)
    async with served({ECHO: Unary(echo)}, "core") as address, grpc.aio.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(ECHO)
        for number in range(300):
            call = method(b"x", timeout=60)
            if number % 3:
                for _ in range(number % 11):
                    await asyncio.sleep(0)
                call.cancel()
            else:
                assert await call == b"x"
    gc.collect()
    assert not fronts[0]._calls


async def test_the_event_loop_waits_for_calls_itself_only_while_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    released = asyncio.Event()

    async def wait(_: bytes, __: Call) -> bytes:
        await released.wait()
        return b"late"

    front = CoreFront({ECHO: Unary(echo), "/test.Service/Wait": Unary(wait)}, (), 9)
    calls_at_waits: list[int] = []

    def now() -> float:
        calls_at_waits.append(len(front._calls))
        return time.time()

    monkeypatch.setattr("server.fronts.core.time", SimpleNamespace(time=now))
    port = front.add_port("127.0.0.1:0")
    await front.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        echoed: Any = channel.unary_unary(ECHO)
        waiting: Any = channel.unary_unary("/test.Service/Wait")
        late = waiting(b"x", timeout=60)
        for _ in range(20):
            assert await echoed(b"x", timeout=60) == b"x"
        released.set()
        assert await late == b"late"
        for _ in range(2000):  # on a busy machine, the next event is often there already
            if calls_at_waits:
                break
            assert await echoed(b"x", timeout=60) == b"x"
    await front.stop(None)
    assert calls_at_waits
    assert set(calls_at_waits) == {0}


async def test_an_event_loop_that_others_need_too_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def now() -> float:
        raise AssertionError("it waits")

    front = CoreFront({ECHO: Unary(echo)}, (), 9, alone=False)
    monkeypatch.setattr("server.fronts.core.time", SimpleNamespace(time=now))
    port = front.add_port("127.0.0.1:0")
    await front.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        echoed: Any = channel.unary_unary(ECHO)
        for _ in range(20):
            assert await echoed(b"x", timeout=60) == b"x"
    await front.stop(None)


async def test_messages_that_come_together_are_offered_together_and_the_rest_is_answered_alone() -> None:
    offered: list[int] = []

    def answer_some(bodies: Sequence[bytes], calls: Sequence[Call]) -> list[bytes | None]:
        assert len(bodies) == len(calls) > 1
        offered.append(len(bodies))
        return [b"together " + body if int(body) % 2 else None for body in bodies]

    method = Unary(echo, answer_together=answer_some)
    async with served({ECHO: method}, "core") as address, grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(ECHO)
        answers = await asyncio.gather(*(call(str(number).encode(), timeout=60) for number in range(500)))
    assert [int(answer.removeprefix(b"together ")) for answer in answers] == list(range(500))
    together = [answer for answer in answers if answer.startswith(b"together")]
    assert together
    assert all(int(answer.removeprefix(b"together ")) % 2 for answer in together)
    assert len(together) <= sum(offered) <= 500
