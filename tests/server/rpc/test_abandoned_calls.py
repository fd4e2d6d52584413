"""Clients that leave in the middle of a call, or send bytes that are no message, put no traceback into the log."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc

from server import app
from server.app import Server
from tests.server.fronts.served import FRONTS
from tests.server.open_inference.inference_requests import infer_request

GARBAGE = b"\xff\xff\xff"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
ROWS = infer_request(np.zeros((64, 4), np.float32))
ROW = infer_request(np.zeros((1, 4), np.float32))
SYMBOL = reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService")


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def log(server: Server, caplog: pytest.LogCaptureFixture) -> AsyncIterator[list[str]]:
    """The log of `server` and of gRPC, checked once everything has ended."""
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: problems.append(str(about)))
    caplog.set_level(logging.INFO)
    yield caplog.messages
    await server.close()
    gc.collect()  # an exception of a task is reported when the task is collected
    await asyncio.sleep(0)
    records = [record for phase in ("setup", "call", "teardown") for record in caplog.get_records(phase)]
    problems += [record.getMessage() for record in records if record.exc_info or record.levelno >= logging.WARNING]
    assert not problems


@pytest.fixture
async def channel(server: Server, log: list[str]) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        yield channel


@pytest.mark.parametrize("path", [INFER, CHECK, WATCH, REFLECT])
async def test_bytes_that_are_no_message_are_invalid(channel: Any, path: str) -> None:
    call: Any
    if path in {INFER, CHECK}:
        call = channel.unary_unary(path)(GARBAGE)
    elif path == WATCH:
        call = channel.unary_stream(path)(GARBAGE)
    else:
        call = channel.stream_stream(path)(iter([GARBAGE]))
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await call.details()).startswith("the request is not a ")


Open = Callable[[grpc.aio.Channel], Awaitable[Any]]


async def stream_infer(channel: grpc.aio.Channel) -> Any:
    stub: Any = pb_grpc.GRPCInferenceServiceStub
    call = stub(channel).ModelStreamInfer()
    for _ in range(5):
        await call.write(ROW)
    return call


async def refused_stream_infer(channel: grpc.aio.Channel) -> Any:
    call: Any = channel.stream_stream(STREAM)()
    for _ in range(10):
        await call.write(GARBAGE)
    return call


async def infer(channel: grpc.aio.Channel) -> Any:
    stub: Any = pb_grpc.GRPCInferenceServiceStub
    return stub(channel).ModelInfer(ROWS)


async def refused_infer(channel: grpc.aio.Channel) -> Any:
    stub: Any = pb_grpc.GRPCInferenceServiceStub
    return stub(channel).ModelInfer(pb.ModelInferRequest(model_name="other"))


async def watch(channel: grpc.aio.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub
    return stub(channel).Watch(health_pb2.HealthCheckRequest())


async def refused_check(channel: grpc.aio.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub
    return stub(channel).Check(health_pb2.HealthCheckRequest(service="other"))


async def reflect(channel: grpc.aio.Channel) -> Any:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub
    call = stub(channel).ServerReflectionInfo()
    for _ in range(10):
        await call.write(SYMBOL)
    return call


CALLS = [stream_infer, refused_stream_infer, infer, refused_infer, watch, refused_check, reflect]
TRIES = 100
STEP_S = 0.0003  # calls end at many different moments


@pytest.mark.parametrize("open_call", CALLS)
async def test_a_call_that_is_cancelled_is_no_error(channel: grpc.aio.Channel, open_call: Open) -> None:
    for attempt in range(TRIES):
        call = await open_call(channel)
        await asyncio.sleep(STEP_S * (attempt % 12))
        call.cancel()


@pytest.mark.parametrize("open_call", CALLS)
async def test_a_call_past_its_deadline_is_no_error(server: Server, log: list[str], open_call: Open) -> None:
    class WithDeadline:
        """Sets a deadline for each call."""

        def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
            self._channel = channel
            self._timeout_s = timeout_s

        def __getattr__(self, kind: str) -> Any:
            def method(*arguments: Any, **options: Any) -> Any:
                call = getattr(self._channel, kind)(*arguments, **options)
                return lambda *sent: call(*sent, timeout=self._timeout_s)

            return method

    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        for attempt in range(TRIES):
            limited: Any = WithDeadline(channel, STEP_S * (1 + attempt % 12))
            try:
                call = await open_call(limited)
                await call.code()
            except (grpc.RpcError, asyncio.InvalidStateError):
                continue  # it ended while it was being written


class ResettingProxy:
    """Forwards connections to a server, and resets them on command, as a crashing client or router does."""

    def __init__(self, server: Server) -> None:
        self._address = server.address
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._address.host, self._address.port)
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._pumps.add(asyncio.create_task(self._pump(source, sink)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                sink.write(data)
        except ConnectionError:
            return

    def reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        self.reset()
        await asyncio.gather(*self._pumps)


async def test_a_connection_that_is_reset_is_no_error(server: Server, log: list[str]) -> None:
    proxy = ResettingProxy(server)
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    address = "127.0.0.1:{1}".format(*listener.sockets[0].getsockname())
    async with listener:
        for attempt in range(TRIES // 8):
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(address, options=options) as channel:
                calls = [await open_call(channel) for open_call in CALLS]
                await calls[-1].read()  # the connection is in use
                await asyncio.sleep(STEP_S * (attempt % 12))
                proxy.reset()
    await proxy.close()


async def read_to_the_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        continue


async def test_open_streams_end_with_the_server_without_an_error(
    server: Server, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_PATIENCE_S", 0.01)
    watched, *calls = [await open_call(channel) for open_call in (watch, stream_infer, reflect)]
    for call in (watched, *calls):
        await call.read()
    await server.drain()
    await server.close()
    await read_to_the_end(watched)
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await read_to_the_end(call)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
