"""AsyncGanClient does what GanClient does, on an event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
import numpy as np
import pytest

from client import AsyncGanClient, DeadlineExceeded, GanClient, InvalidRequest, ServerFault, ServerUnreachable
from client.sdk.calls import BUSY_PAUSES_S
from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, encoded, pixels_of, rows_of, waits_for_three
from tests.client.sdk.test_client import OLD_NAMES, arguments_of, value_of
from tests.client.sdk.test_transport import alive

Code = grpc.StatusCode
IMAGES = np.random.default_rng(1).integers(0, 256, (9, 4, 3, 3), dtype=np.uint8)


@pytest.fixture
async def aio(server: FakeServer) -> AsyncIterator[AsyncGanClient]:
    async with AsyncGanClient(server.address, timeout_s=20) as opened:
        yield opened


def test_the_async_client_has_the_calls_and_arguments_of_the_blocking_one() -> None:
    for name, call in inspect.getmembers(GanClient, inspect.isfunction):
        if not name.startswith("_"):
            twin = getattr(AsyncGanClient, name)
            assert inspect.signature(twin).parameters == inspect.signature(call).parameters, name
            assert inspect.iscoroutinefunction(twin) != name.endswith("_chunks"), name
    assert inspect.signature(AsyncGanClient).parameters == inspect.signature(GanClient).parameters


async def test_every_call_returns_what_the_blocking_one_returns(client: GanClient, aio: AsyncGanClient) -> None:
    latents = latents_from_seed(3, 300, 6)
    for arguments in ({"seed": 5, "count": 700}, {"latents": latents}):
        np.testing.assert_array_equal(await aio.generate("dcgan", **arguments), client.generate("dcgan", **arguments))
    assert await aio.generate_encoded("dcgan", seed=1, count=2) == client.generate_encoded("dcgan", seed=1, count=2)
    for mine, other in zip(
        await aio.generate_pictures("dcgan", seed=1, count=2),
        client.generate_pictures("dcgan", seed=1, count=2),
        strict=True,
    ):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(other))
    np.testing.assert_array_equal(np.asarray(await aio.grid("dcgan", seed=1)), np.asarray(client.grid("dcgan", seed=1)))
    np.testing.assert_array_equal(
        await aio.interpolate("dcgan", 1, 2, loop=True), client.interpolate("dcgan", 1, 2, loop=True)
    )
    np.testing.assert_array_equal(
        await aio.traverse("dcgan", latents[:4], dimensions=[1, 2], values=[-3, 0, 3]),
        client.traverse("dcgan", latents[:4], dimensions=[1, 2], values=[-3, 0, 3]),
    )
    np.testing.assert_array_equal(await aio.translate("a2b", IMAGES), 255 - IMAGES)
    files = [encoded(image) for image in IMAGES]
    assert await aio.translate_encoded("a2b", files) == client.translate_encoded("a2b", files)
    assert await aio.models() == client.models()
    assert await aio.info("a2b") == client.info("a2b")
    assert await aio.describe("dcgan") == client.describe("dcgan")
    assert await aio.card("dcgan") == client.card("dcgan")
    assert (await aio.healthy(), await aio.healthy("dcgan"), await aio.healthy("nope")) == (True, True, False)


async def test_chunks_arrive_in_order_from_any_first_row(aio: AsyncGanClient) -> None:
    chunks = [chunk.images async for chunk in aio.generate_chunks("dcgan", seed=7, count=600, first_row=30)]
    np.testing.assert_array_equal(np.concatenate(chunks), pixels_of(latents_from_seed(7, 630, 6)[30:], 4, 3, 1))
    files = [len(chunk.files) async for chunk in aio.generate_encoded_chunks("dcgan", seed=7, count=600)]
    assert files == [256, 256, 88]
    translated = [chunk.images async for chunk in aio.translate_chunks("a2b", iter([encoded(row) for row in IMAGES]))]
    np.testing.assert_array_equal(np.concatenate(translated), 255 - IMAGES)


async def test_one_request_per_channel_is_in_flight(server: FakeServer) -> None:
    waits_for_three(server)
    async with AsyncGanClient(server.address, timeout_s=20, channels=3) as client:
        images = await client.generate("dcgan", seed=9, count=256 * 7)
    np.testing.assert_array_equal(images, pixels_of(latents_from_seed(9, 256 * 7, 6), 4, 3, 1))
    assert len(server.peers) == 3


async def test_calls_of_one_client_run_concurrently(server: FakeServer, aio: AsyncGanClient) -> None:
    waits_for_three(server)
    made = await asyncio.gather(*(aio.generate("dcgan", seed=seed, version=3) for seed in range(3)))
    for seed, images in enumerate(made):
        np.testing.assert_array_equal(images, pixels_of(latents_from_seed(seed, 1, 6), 4, 3, 1))


def tell(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Sets an event from another thread."""
    loop.call_soon_threadsafe(event.set)


async def test_cancelling_a_call_cancels_its_request(server: FakeServer, aio: AsyncGanClient) -> None:
    loop, received, cancelled, held = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event(), threading.Event()

    def generate(request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:
        context.add_callback(lambda: tell(loop, cancelled))
        tell(loop, received)
        held.wait(timeout=20)
        return server.images_for(request)

    server.generate_answer = generate
    task = asyncio.create_task(aio.generate("dcgan"))
    await asyncio.wait_for(received.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(cancelled.wait(), 20)
    held.set()


async def test_leaving_a_loop_early_cancels_requests_in_flight(server: FakeServer) -> None:
    loop, received, cancelled, held = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event(), threading.Event()

    def generate(request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:
        if request.version:  # all but the first
            context.add_callback(lambda: tell(loop, cancelled))
            tell(loop, received)
            held.wait(timeout=20)
        return server.images_for(request)

    server.generate_answer = generate
    async with AsyncGanClient(server.address, timeout_s=20, channels=2) as client:
        async with aclosing(client.generate_chunks("dcgan", seed=0, count=100_000)) as chunks:
            async for chunk in chunks:
                assert len(chunk.images) == 256
                await asyncio.wait_for(received.wait(), 20)
                break
        await asyncio.wait_for(cancelled.wait(), 20)
    held.set()


async def test_errors_are_those_of_the_blocking_client(server: FakeServer, aio: AsyncGanClient) -> None:
    server.failures.append((Code.INTERNAL, "broken"))
    with pytest.raises(ServerFault, match="broken"):
        await aio.generate("dcgan")
    with pytest.raises(InvalidRequest, match="format: must be"):
        await aio.generate("dcgan", format="gif")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(InvalidRequest, match="images: must not be empty"):
        await aio.translate("a2b", [])
    with pytest.raises(InvalidRequest, match="count: must be a whole number"):
        aio.generate_chunks("dcgan", seed=0, count=0)
    with pytest.raises(InvalidRequest, match="timeout_s"):
        AsyncGanClient(timeout_s=0)


@pytest.mark.usefixtures("quick_retries")
async def test_requests_to_an_unavailable_server_are_retried(server: FakeServer, aio: AsyncGanClient) -> None:
    server.failures.extend([(Code.UNAVAILABLE, "starting")] * 2)
    assert len(await aio.generate("dcgan", seed=0, count=2)) == 2
    assert len(server.requests) == 3


@pytest.mark.usefixtures("quick_retries")
async def test_the_error_for_an_unreachable_server_names_the_address() -> None:
    with FakeServer().serve() as stopped:
        address = stopped.address
    async with AsyncGanClient(address) as client:
        with pytest.raises(ServerUnreachable, match=address):
            await client.models()


async def test_a_hanging_server_is_given_up_at_the_deadline(server: FakeServer) -> None:
    server.released.clear()
    async with AsyncGanClient(server.address, timeout_s=0.2) as client:
        with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
            await client.generate("dcgan")


async def test_busy_and_slow_servers_are_retried(
    server: FakeServer, aio: AsyncGanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sum(BUSY_PAUSES_S) > 20
    monkeypatch.setattr("client.sdk.calls.BUSY_PAUSES_S", (0.0,))
    server.rows_in_time = 3
    server.failures.append((Code.RESOURCE_EXHAUSTED, "the queue is full"))
    np.testing.assert_array_equal(await aio.translate("a2b", IMAGES), 255 - IMAGES)
    assert rows_of(server.translations[0]) > 3


async def test_calls_of_a_closed_client_raise(server: FakeServer) -> None:
    async with AsyncGanClient(server.address) as client:
        await client.models()
    with pytest.raises(InvalidRequest, match="closed"):
        await client.models()


@pytest.mark.parametrize("channels", [1, 3])
async def test_closing_a_client_ends_its_calls_and_cancels_no_task(server: FakeServer, channels: int) -> None:
    loop, received, held = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def generate(request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:
        tell(loop, received)
        held.wait(timeout=20)
        return server.images_for(request)

    server.generate_answer = generate
    client = AsyncGanClient(server.address, timeout_s=20, channels=channels)
    task = asyncio.create_task(client.generate("dcgan"))
    await asyncio.wait_for(received.wait(), 20)
    await client.close()
    with pytest.raises(InvalidRequest, match="this client is closed"):
        await task
    held.set()


async def test_refused_requests_are_released(
    server: FakeServer, aio: AsyncGanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.sdk.calls.BUSY_PAUSES_S", (0.0,) * 20)
    async with aclosing(aio.generate_chunks("dcgan", seed=0, count=256 * 9)) as chunks:
        await anext(chunks)
        server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * 15)
        await anext(chunks)
        assert alive(grpc.aio.UnaryUnaryCall) <= 2  # the last answered one, and one for the list of models


async def test_a_client_that_was_never_used_can_be_closed() -> None:
    await AsyncGanClient("127.0.0.1:1").close()


@pytest.mark.parametrize(("name", "old"), OLD_NAMES.items())
async def test_the_async_client_takes_the_old_name_of_format(aio: AsyncGanClient, name: str, old: str) -> None:
    wanted = "jpeg" if old == "file_format" else "float32"
    call = getattr(aio, name)
    with pytest.warns(DeprecationWarning, match=f"{name}: '{old}' is now 'format'"):
        [chunk] = [chunk async for chunk in call(**arguments_of(name), **{old: wanted})]
    [expected] = [chunk async for chunk in call(**arguments_of(name), format=wanted)]
    assert value_of(chunk) == value_of(expected)


async def test_the_async_client_takes_n_and_latents_without_their_name(server: FakeServer, aio: AsyncGanClient) -> None:
    latents = latents_from_seed(5, 2, 6)
    np.testing.assert_array_equal(await aio.generate("dcgan", latents), await aio.generate("dcgan", seed=5, n=2))
    assert (await aio.grid("dcgan", seed=5, n=4)).size == (12, 14)
    with pytest.raises(InvalidRequest, match="n: is another name of count"):
        await aio.generate("dcgan", seed=5, count=2, n=2)
    assert not [name for name in dir(aio) if name.startswith("_")]
