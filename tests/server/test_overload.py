"""Overload: too many bytes, messages or clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from ganserve.v1 import generator_pb2 as pb
from server.app import Server
from server.config import ServerConfig
from server.gate import Gate
from server.generator import service as generator
from server.generator.latents import read_latents
from tests.picture_files import encoded, noise
from tests.server.generator.translate_requests import GOOD, INVALID, SIZE, files, raw, refusal, stub_of
from tests.server.scheduling.held_run import HeldRun, until
from tests.server.tiny_bundles import publish_tiny_translator

Start = Callable[..., Awaitable[Server]]
Connect = Callable[[Server], grpc.aio.Channel]
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
LARGE_ROWS = 1 << 15  # latents of this many rows are read in a thread


@pytest.fixture
def repository(repository: Path) -> Path:
    """Holds "tiny" and "tiny-a2b"."""
    publish_tiny_translator(repository)
    return repository


async def status_of(channel: grpc.aio.Channel, method: str, body: bytes) -> tuple[grpc.StatusCode, str]:
    """Returns status and details of the refusal of bytes that need not be a message."""
    call: Any = channel.unary_unary(f"/ganserve.v1.Generator/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(body)
    return error.value.code(), error.value.details() or ""


@pytest.mark.parametrize("method", ["Generate", "Translate", "ListModels", "DescribeModel"])
async def test_the_gate_refuses_requests_before_parsing_them(
    config: ServerConfig, connect: Connect, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(Gate, "open", lambda _: None)
    server = Server(config)
    try:
        server.reserve()
        await server.listen()
        code, details = await status_of(connect(server), method, b"\xff")
        assert (code, "the server is starting" in details) == (grpc.StatusCode.UNAVAILABLE, True)
    finally:
        await server.close()


@pytest.mark.parametrize("method", ["Generate", "Translate", "ListModels", "DescribeModel"])
async def test_malformed_messages_are_invalid(server: Server, connect: Connect, method: str) -> None:
    code, details = await status_of(connect(server), method, b"\xff")
    assert code is INVALID
    assert details.startswith(f"the request is not a {method}Request: send one as")


@pytest.mark.parametrize("request_message", [raw(noise(3, *SIZE, 3)), files(GOOD, GOOD, GOOD)], ids=["pixels", "files"])
async def test_images_in_progress_are_bounded_in_bytes(
    start_server: Start, connect: Connect, hold: Callable[..., HeldRun], request_message: pb.TranslateRequest
) -> None:
    size = len(request_message.SerializeToString()) + 3 * 72  # the message, and its rows
    server = await start_server(max_request_bytes=1000)
    budget = server.core.input_budget
    budget._total_bytes = 2 * size
    held, stub = hold(server, "tiny-a2b"), stub_of(connect(server))
    accepted = [asyncio.ensure_future(stub.Translate(request_message)) for _ in range(2)]
    await until(lambda: budget.used_bytes == 2 * size)
    code, details = await refusal(stub, request_message)
    assert code is EXHAUSTED
    assert details.endswith("more do not fit): try again after a pause")
    assert (await stub.Generate(pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(count=1)))).images.shape
    held.release_all()
    await asyncio.gather(*accepted)
    await until(lambda: budget.used_bytes == 0)


def latents(rows: int) -> pb.GenerateRequest:
    tensor = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=(rows, 4), data=bytes(rows * 16))
    return pb.GenerateRequest(model="tiny", latents=tensor)


def seeded(count: int) -> pb.GenerateRequest:
    return pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(count=count))


async def test_large_latents_count_as_input_in_progress(
    start_server: Start, connect: Connect, hold: Callable[..., HeldRun]
) -> None:
    server = await start_server(max_request_rows=LARGE_ROWS, max_queue_rows=2 * LARGE_ROWS)
    channel, budget, large = connect(server), server.core.input_budget, latents(LARGE_ROWS)
    held, stub = hold(server), stub_of(channel)
    budget._total_bytes = size = large.ByteSize()
    first = asyncio.ensure_future(stub.Generate(large))
    await held.started()
    assert budget.used_bytes == size
    code, details = await status_of(channel, "Generate", large.SerializeToString())
    assert (code, details[:21]) == (EXHAUSTED, "too much input waits ")
    held.release_all()
    await asyncio.gather(first, stub.Generate(seeded(1)))
    await until(lambda: budget.used_bytes == 0)


async def test_no_latents_are_drawn_for_a_request_that_does_not_fit_into_the_queue(
    start_server: Start, connect: Connect, hold: Callable[..., HeldRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(max_queue_rows=256)
    channel = connect(server)
    held, stub = hold(server), stub_of(channel)
    running = asyncio.ensure_future(stub.Generate(latents(1)))
    await held.started()
    waiting = asyncio.ensure_future(stub.Generate(latents(256)))
    await until(lambda: server.core.catalog["tiny"].batcher.queued_rows == 256)
    drawn: list[Any] = []
    monkeypatch.setattr(generator, "read_latents", drawn.append)
    assert (await status_of(channel, "Generate", seeded(256).SerializeToString()))[0] is EXHAUSTED
    assert not drawn
    held.release_all()
    await asyncio.gather(running, waiting)


async def test_latents_read_off_the_event_loop_reserve_room_in_the_queue(
    start_server: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(max_request_rows=LARGE_ROWS, max_queue_rows=LARGE_ROWS)
    channel, released = connect(server), threading.Event()

    def read(admitted: Any) -> Any:
        assert released.wait(20)
        return read_latents(admitted)

    monkeypatch.setattr(generator, "read_latents", read)
    queue = server.core.catalog["tiny"].batcher._queue
    first = asyncio.ensure_future(stub_of(channel).Generate(seeded(LARGE_ROWS)))
    await until(lambda: queue.reserved_rows == LARGE_ROWS)
    assert (await status_of(channel, "Generate", seeded(256).SerializeToString()))[0] is EXHAUSTED
    released.set()
    assert (await first).images.shape[0] == LARGE_ROWS
    assert queue.reserved_rows == 0


async def test_tiny_files_count_as_the_rows_they_decode_to(start_server: Start, connect: Connect) -> None:
    server = await start_server()
    pixel = files(encoded(noise(1, 1, 3)), resize=True)
    server.core.input_budget._total_bytes = len(pixel.SerializeToString()) + 71
    code, details = await refusal(stub_of(connect(server)), pixel)
    assert code is EXHAUSTED
    assert "72 more do not fit" in details
    assert server.core.input_budget.used_bytes == 0


async def test_a_message_larger_than_any_latents_is_refused_before_parsing(
    start_server: Start, connect: Connect
) -> None:
    server = await start_server(max_request_rows=1)
    code, details = await status_of(connect(server), "Generate", b"\xff" * (1 << 17))
    assert (code, details) == (
        INVALID,
        "the request has 131072 bytes, and latents may have 16384: send fewer rows at a time",
    )


async def test_requests_above_the_concurrency_limit_are_refused(
    start_server: Start, connect: Connect, hold: Callable[..., HeldRun]
) -> None:
    server = await start_server(max_concurrent_requests=1)
    held, stub = hold(server, "tiny-a2b"), stub_of(connect(server))
    first = asyncio.ensure_future(stub.Translate(files(GOOD)))
    await held.started()
    assert (await refusal(stub, files(GOOD)))[0] is EXHAUSTED
    held.release_all()
    assert len((await first).encoded.data) == 1


async def test_gauges_show_the_input_in_progress(server: Server, stub: Any, hold: Callable[..., HeldRun]) -> None:
    def value(name: str) -> float | None:
        return server.core.metrics.registry.get_sample_value(f"ganserve_{name}")

    assert (value("input_bytes"), value("unread_images")) == (0, 0)
    held = hold(server, "tiny-a2b")
    request = files(GOOD)
    call = asyncio.ensure_future(stub.Translate(request))
    await held.started()
    assert (value("input_bytes"), value("unread_images")) == (len(request.SerializeToString()) + 72, 0)
    held.release_all()
    await call
