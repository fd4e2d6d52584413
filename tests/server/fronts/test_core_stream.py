from __future__ import annotations

import asyncio
from typing import Any

import grpc

from server.fronts.base import Stream, StreamCall
from tests.server.fronts.served import served

STREAM = "/test.Service/Stream"


async def test_several_writers_take_turns() -> None:
    async def write_many(call: StreamCall) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(call.write(str(number).encode()))

    async with served({STREAM: Stream(write_many)}, "core") as address, grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.stream_stream(STREAM)(iter(()), timeout=60)
        assert [int(message) async for message in call] == list(range(30))


async def test_a_writer_that_is_cancelled_sends_nothing_and_stops_no_other() -> None:
    async def write_some(call: StreamCall) -> None:
        writers = [asyncio.create_task(call.write(bytes(1 << 22) + bytes([number]))) for number in range(5)]
        await asyncio.sleep(0)
        writers[2].cancel()
        await asyncio.gather(*writers, return_exceptions=True)

    options = [("grpc.max_receive_message_length", -1)]
    async with (
        served({STREAM: Stream(write_some)}, "core") as address,
        grpc.aio.insecure_channel(address, options) as channel,
    ):
        call: Any = channel.stream_stream(STREAM)(iter(()), timeout=60)
        assert [message[-1] async for message in call] == [0, 1, 3, 4]
