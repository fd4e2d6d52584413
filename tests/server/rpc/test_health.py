from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as pb_grpc

from server.fronts.base import Stream
from server.rpc.health import SERVICE, Health
from tests.server.fronts.served import FRONTS, served
from tests.server.scheduling.held_run import settle

NOT_SERVING, SERVING = pb.HealthCheckResponse.NOT_SERVING, pb.HealthCheckResponse.SERVING
UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def health() -> Health:
    health = Health()
    await health.set("", SERVING)
    await health.set("a", NOT_SERVING)
    return health


@pytest.fixture
async def stub(health: Health, front: str) -> AsyncIterator[Any]:
    methods = {f"/{SERVICE}/{name}": method for name, method in health.methods().items()}
    make_stub: Any = pb_grpc.HealthStub
    async with served(methods, front) as address, grpc.aio.insecure_channel(address) as channel:
        yield make_stub(channel)


def asking(service: str) -> pb.HealthCheckRequest:
    return pb.HealthCheckRequest(service=service)


async def test_check_answers_for_the_server_and_for_its_services(stub: Any) -> None:
    assert (await stub.Check(asking(""))).status == SERVING
    assert (await stub.Check(asking("a"))).status == NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError, match="no service of this name") as raised:
        await stub.Check(asking("b"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watch_sends_each_change_to_all_watchers(health: Health, stub: Any) -> None:
    watches = [stub.Watch(asking("a")) for _ in range(3)]
    assert [(await watch.read()).status for watch in watches] == [NOT_SERVING] * 3
    watches.pop().cancel()  # one that leaves takes nothing from the others
    await settle()
    await health.set("a", SERVING)
    assert [(await watch.read()).status for watch in watches] == [SERVING] * 2
    await health.enter_graceful_shutdown()
    assert [(await watch.read()).status for watch in watches] == [NOT_SERVING] * 2


async def test_watch_of_an_unknown_service_waits_for_it(health: Health, stub: Any) -> None:
    watch = stub.Watch(asking("b"))
    assert (await watch.read()).status == UNKNOWN
    await health.set("b", SERVING)
    assert (await watch.read()).status == SERVING


async def test_nothing_serves_again_after_a_shutdown(health: Health, stub: Any) -> None:
    await health.enter_graceful_shutdown()
    await health.set("", SERVING)
    assert (await stub.Check(asking(""))).status == NOT_SERVING


async def test_a_watcher_that_does_not_read_delays_no_change(health: Health) -> None:
    class StuckCall:
        async def read(self) -> bytes:
            body: bytes = asking("").SerializeToString()
            return body

        async def write(self, _: bytes) -> None:
            await asyncio.Event().wait()

    call: Any = StuckCall()
    watch = health.methods()["Watch"]
    assert isinstance(watch, Stream)
    watching = asyncio.create_task(watch.answer(call))
    await settle()
    await asyncio.wait_for(health.enter_graceful_shutdown(), 5)
    watching.cancel()


async def test_watches_end_after_the_last_status(health: Health, stub: Any) -> None:
    watches = [stub.Watch(asking("")) for _ in range(2)]
    assert [(await watch.read()).status for watch in watches] == [SERVING] * 2
    await health.enter_graceful_shutdown()
    health.end_watches()
    for watch in watches:
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() == grpc.aio.EOF
