"""Many calls at once: each is answered, or refused with RESOURCE_EXHAUSTED and counted."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from ganserve.v1 import generator_pb2 as pb
from server.app import Server
from server.config import Address
from tests.server.conftest import StartServer
from tests.server.raw_http2 import RawHttp2Client

GENERATE = "/ganserve.v1.Generator/Generate"
CONNECTIONS = 20
ONE_ROW = pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(seed=1, count=1)).SerializeToString()


async def burst(address: Address, count: int) -> Counter[str]:
    """Sends calls of one row at once on several connections; returns how many ended in each status."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(str(address), options=options) for _ in range(CONNECTIONS)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    statuses = Counter[str]()

    async def one(number: int) -> None:
        call: Any = channels[number % CONNECTIONS].unary_unary(GENERATE)
        try:
            await call(ONE_ROW, timeout=120)
        except grpc.aio.AioRpcError as error:
            statuses[error.code().name] += 1
        else:
            statuses["OK"] += 1

    await asyncio.gather(*(one(number) for number in range(count)))
    for channel in channels:
        await channel.close()
    return statuses


def refused(server: Server) -> float:
    labels = {"model": "", "version": "", "method": "Generate", "status": "RESOURCE_EXHAUSTED"}
    return server.core.metrics.registry.get_sample_value("ganserve_requests_total", labels) or 0


@pytest.mark.parametrize("count", [500, 3000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_every_call_of_a_burst_is_answered(start_server: StartServer, count: int) -> None:
    server = await start_server(max_queue_rows=1_000_000)
    assert await burst(server.address, count) == {"OK": count}


async def test_calls_above_the_limit_are_refused_and_counted(start_server: StartServer) -> None:
    server = await start_server(max_queue_rows=1_000_000, max_concurrent_requests=100)
    statuses = await burst(server.address, 2500)
    assert statuses.keys() <= {"OK", "RESOURCE_EXHAUSTED"}
    assert statuses.total() == 2500
    assert statuses["OK"] >= 100
    assert statuses["RESOURCE_EXHAUSTED"] == refused(server)


@contextmanager
def resetting(address: Address) -> Iterator[None]:
    """Opens and resets calls on one connection all the time."""
    stop = threading.Event()
    client = RawHttp2Client(address.host, address.port)
    client.ping()  # acknowledges the settings: until then, a server takes few calls

    def reset() -> None:
        while not stop.is_set():
            client.reset_calls(GENERATE, 100)

    thread = threading.Thread(target=reset)
    thread.start()
    try:
        yield
        assert thread.is_alive(), "the server has closed the connection"
    finally:
        stop.set()
        thread.join()
        client.close()


async def test_a_peer_that_opens_and_resets_calls_all_the_time_costs_others_no_call(start_server: StartServer) -> None:
    server = await start_server(max_queue_rows=1_000_000)
    with resetting(server.address):
        for _ in range(2):
            assert await burst(server.address, 100) == {"OK": 100}
