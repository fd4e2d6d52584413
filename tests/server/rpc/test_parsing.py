from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ganserve.v1 import generator_pb2 as pb
from server.errors import InvalidRequest
from server.rpc.parsing import THREAD_WORTHY_BYTES, MessageParser
from tests.server.scheduling.held_run import settle, until

SMALL = pb.GenerateRequest(model="tiny").SerializeToString()
LARGE = pb.GenerateRequest(model="tiny", latents=pb.Tensor(data=bytes(THREAD_WORTHY_BYTES))).SerializeToString()


class Watched:
    """A fake kind of message that records the threads that parse it."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def FromString(self, body: bytes) -> pb.GenerateRequest:  # noqa: N802 - protobuf's name
        self.threads.append(threading.current_thread())
        return pb.GenerateRequest.FromString(body)


@pytest.mark.parametrize(("body", "on_the_loop"), [(SMALL, True), (LARGE, False)])
async def test_only_small_messages_are_parsed_on_the_event_loop(body: bytes, on_the_loop: bool) -> None:
    kind: Any = Watched()
    async with MessageParser().parsed(kind, body) as request:
        assert request.model == "tiny"
    assert (kind.threads == [threading.current_thread()]) is on_the_loop


async def test_large_messages_are_parsed_one_at_a_time_and_small_ones_overtake_them() -> None:
    parser, kind = MessageParser(), Watched()
    watched: Any = kind

    async def use(body: bytes) -> None:
        async with parser.parsed(watched, body):
            pass

    async with parser.parsed(watched, LARGE):
        second = asyncio.create_task(use(LARGE))
        await settle()
        await use(SMALL)
        assert len(kind.threads) == 2
    await second
    assert len(kind.threads) == 3


class Held(Watched):
    """A message that is parsed when the test releases it."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def FromString(self, body: bytes) -> pb.GenerateRequest:  # noqa: N802 - protobuf's name
        request = super().FromString(body)
        assert self.released.wait(20)
        return request


async def test_after_a_cancellation_the_next_message_waits_for_the_running_parse() -> None:
    parser, kind = MessageParser(), Held()
    held: Any = kind

    async def use() -> None:
        async with parser.parsed(held, LARGE):
            pass

    first, second = asyncio.create_task(use()), asyncio.create_task(use())
    await until(lambda: len(kind.threads) == 1)
    for _ in range(2):  # the second time, it is already waiting for the thread
        first.cancel()
        await settle()
    assert not first.done()
    assert len(kind.threads) == 1
    kind.released.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert len(kind.threads) == 2


@pytest.mark.parametrize("body", [b"\xff", b"\xff" * THREAD_WORTHY_BYTES])
async def test_a_malformed_message_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the request is not a GenerateRequest: send one as"):
        async with MessageParser().parsed(pb.GenerateRequest, body):
            pass
