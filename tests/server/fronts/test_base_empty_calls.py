"""Calls that end without a message are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2

from ganserve.v1 import generator_pb2
from server.app import Server
from server.rpc.health import SERVICE, Health
from tests.server.fronts.served import FRONTS, served

SERVING = health_pb2.HealthCheckResponse.SERVING
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def channel(front: str) -> AsyncIterator[grpc.aio.Channel]:
    """To a server with the health service."""
    service = Health()
    await service.set("", SERVING)
    methods = {f"/{SERVICE}/{name}": method for name, method in service.methods().items()}
    async with served(methods, front) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


@pytest.mark.parametrize("path", [CHECK, WATCH])
async def test_a_call_without_a_message_is_refused(channel: grpc.aio.Channel, path: str) -> None:
    open_call: Any = channel.stream_unary(path)
    for call in [open_call(iter(()), timeout=20) for _ in range(100)]:
        with pytest.raises(grpc.aio.AioRpcError, match="ended without a message: send one") as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_with_a_message_is_answered(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=20)).status == SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    watch.cancel()


async def test_a_client_that_leaves_before_its_message_is_not_an_error(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    open_call: Callable[[], Any] = channel.stream_unary(CHECK)
    for number in range(300):
        call = open_call()
        if number % 3 == 0:
            await asyncio.sleep(0)
        call.cancel()
    stub: Any = health_pb2_grpc.HealthStub(channel)
    assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=20)).status == SERVING
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def methods_with_one_request_message() -> list[str]:
    services = [
        generator_pb2.DESCRIPTOR.services_by_name["Generator"],
        service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
        health_pb2.DESCRIPTOR.services_by_name["Health"],
    ]
    return [
        f"/{service.full_name}/{method.name}"
        for service in services
        for method in service.methods
        if not method.client_streaming
    ]


async def test_no_method_of_the_server_keeps_a_call_without_a_message_open(
    server: Server, connect: Callable[[Server], grpc.aio.Channel]
) -> None:
    statuses: dict[str, grpc.StatusCode] = {}
    for path in methods_with_one_request_message():
        call: Any = connect(server).stream_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(iter(()), timeout=20)
        statuses[path] = refused.value.code()
    known = {status for status in statuses.values() if status is not grpc.StatusCode.UNIMPLEMENTED}
    assert known == {grpc.StatusCode.INVALID_ARGUMENT}, statuses
    assert statuses["/ganserve.v1.Generator/Generate"] is grpc.StatusCode.INVALID_ARGUMENT
