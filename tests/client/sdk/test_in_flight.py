"""Large counts: several requests on their way, in constant memory, from any row on."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent import futures

import grpc
import numpy as np
import pytest

from client import GanClient, InvalidRequest, ServerBusy, ServerFault
from client.sdk.latents import MAX_STREAM_ROWS
from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, pixels_of
from tests.client.sdk.test_client import rows_of

Code = grpc.StatusCode


@pytest.fixture
def wide(server: FakeServer) -> Iterator[GanClient]:
    with GanClient(server.address, timeout_s=20, channels=3) as opened:
        yield opened


def alive(kind: type) -> int:
    """How many objects of that class there are in this process."""
    gc.collect()
    return sum(kind in type(found).__mro__ for found in gc.get_objects())


def waits_for_three(server: FakeServer) -> None:
    """Answers requests with a pinned version only when three of them are there."""
    together = threading.Barrier(3)

    def answer(request: pb.GenerateRequest) -> pb.GenerateResponse:
        if request.version:
            together.wait(timeout=20)
        return server.images_for(request)

    server.answer = answer


def test_as_many_requests_as_channels_are_on_their_way_and_images_keep_their_order(
    server: FakeServer, wide: GanClient
) -> None:
    waits_for_three(server)
    images = wide.generate("dcgan", seed=9, count=256 * 7 - 5)
    np.testing.assert_array_equal(images, pixels_of(latents_from_seed(9, 256 * 7 - 5, 6), 4, 3, 1))
    assert len(server.peers) == 3


def test_answers_that_overtake_each_other_are_put_in_order(server: FakeServer, wide: GanClient) -> None:
    second_has_answered = threading.Event()
    places = itertools.count(1)

    def answer(request: pb.GenerateRequest) -> pb.GenerateResponse:
        place = next(places)  # asked once: requests begin side by side
        response = server.images_for(request)
        if place == 2:
            assert second_has_answered.wait(timeout=20)
        elif place == 3:
            second_has_answered.set()
        return response

    server.answer = answer
    chunks = list(wide.generate_chunks("dcgan", seed=9, count=1000))
    expected = pixels_of(latents_from_seed(9, 1000, 6), 4, 3, 1)
    np.testing.assert_array_equal(np.concatenate([chunk.images for chunk in chunks]), expected)
    assert [len(chunk.images) for chunk in chunks] == [256, 256, 256, 232]


def test_the_first_answer_pins_the_version_of_all(server: FakeServer, wide: GanClient) -> None:
    waits_for_three(server)
    server.models = [model(version=3)]
    chunks = wide.generate_chunks("dcgan", seed=0, count=256 * 4)
    first = next(chunks)
    server.models.append(model(version=4))
    assert {first.version, *(chunk.version for chunk in chunks)} == {3}
    assert [request.version for request in server.requests] == [0, 3, 3, 3]


def test_no_more_is_asked_for_than_may_be_on_its_way(server: FakeServer, wide: GanClient) -> None:
    chunks = wide.generate_chunks("dcgan", seed=0, count=MAX_STREAM_ROWS)
    next(chunks)
    next(chunks)
    chunks.close()
    assert 2 <= len(server.requests) <= 2 + 3


def test_an_error_ends_all_and_cancels_what_is_on_its_way(server: FakeServer, wide: GanClient) -> None:
    cancelled = threading.Semaphore(0)
    held = threading.Event()
    others_came = threading.Event()
    second = latents_from_seed(0, 257, 6)[256].tobytes()

    def generate(request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:
        server.requests.append(request)
        if request.latents.data.startswith(second):
            others_came.wait(timeout=20)
            context.abort(Code.INTERNAL, "broken")
        if request.version:
            context.add_callback(cancelled.release)
            others_came.set()
            held.wait(timeout=20)
        return server.images_for(request)

    server.generate_answer = generate
    with pytest.raises(ServerFault, match="broken"):
        wide.generate("dcgan", seed=0, count=256 * 9)
    assert cancelled.acquire(timeout=20)
    held.set()
    server.generate_answer = None
    assert len(wide.generate("dcgan", seed=0, count=256 * 9)) == 256 * 9


def test_no_thread_is_left_after_the_client_is_closed(server: FakeServer) -> None:
    before = set(threading.enumerate())
    with GanClient(server.address, channels=4) as client:
        client.generate("dcgan", seed=0, count=3000)
        chunks = client.generate_chunks("dcgan", seed=0, count=3000)
        next(chunks)
        del chunks
    for thread in set(threading.enumerate()) - before:
        if "grpc" in thread.name or "channel" in thread.name:
            thread.join(timeout=20)
            assert not thread.is_alive(), thread


@pytest.mark.parametrize("channels", [1, 3])
def test_a_call_whose_client_is_closed_meanwhile_says_so(server: FakeServer, channels: int) -> None:
    server.released.clear()
    with futures.ThreadPoolExecutor(1) as pool, GanClient(server.address, timeout_s=20, channels=channels) as client:
        call = pool.submit(client.generate, "dcgan", seed=0, count=3000)
        assert server.received.wait(timeout=20)
        client.close()
        with pytest.raises(InvalidRequest, match="this client is closed"):
            call.result(timeout=20)


def test_refused_requests_are_not_kept(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.sdk.calls.BUSY_PAUSES_S", (0.0,) * 20)
    with (
        GanClient(server.address, timeout_s=20, channels=2) as client,
        contextlib.closing(client.generate_chunks("dcgan", seed=0, count=256 * 9)) as chunks,
    ):
        next(chunks)
        server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * 15)
        next(chunks)  # perhaps answered before the queue was full
        next(chunks)
        next(chunks)
        assert alive(grpc.Future) <= 4  # two on their way, and what was answered last


@pytest.mark.parametrize("channels", [1, 3])
def test_what_has_begun_to_come_waits_for_a_busy_server(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    monkeypatch.setattr("client.sdk.calls.BUSY_PAUSES_S", (0.0, 0.0))
    with GanClient(server.address, timeout_s=20, channels=channels) as client:
        chunks = client.generate_chunks("dcgan", seed=4, count=900)
        parts = [next(chunks).images]
        server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * 2)
        parts += [chunk.images for chunk in chunks]
        np.testing.assert_array_equal(np.concatenate(parts), pixels_of(latents_from_seed(4, 900, 6), 4, 3, 1))
        server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * 20)
        with pytest.raises(ServerBusy):
            client.generate("dcgan", seed=4, count=900)


@pytest.mark.parametrize(("first_row", "count"), [(1, 1), (0, 700), (37, 3), (255, 600), (100_000, 2)])
def test_later_rows_of_a_seed_are_those_of_a_longer_count(
    server: FakeServer, client: GanClient, first_row: int, count: int
) -> None:
    expected = pixels_of(latents_from_seed(7, first_row + count, 6)[first_row:], 4, 3, 1)
    chunks = client.generate_chunks("dcgan", seed=7, count=count, first_row=first_row)
    np.testing.assert_array_equal(np.concatenate([chunk.images for chunk in chunks]), expected)
    files = client.generate_encoded_chunks("dcgan", seed=7, count=count, first_row=first_row)
    assert sum(len(chunk.files) for chunk in files) == count
    assert max(map(rows_of, server.requests)) <= 256


def test_a_million_rows_take_the_memory_of_a_few_chunks(server: FakeServer, client: GanClient) -> None:
    server.models = [model(latent_dim=100)]
    tracemalloc.start()
    try:
        with contextlib.closing(client.generate_chunks("dcgan", seed=0, count=1_000_000)) as chunks:
            for _ in range(20):
                next(chunks)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20 << 20  # all latents are 400 MB


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 0, "count": MAX_STREAM_ROWS + 1}, "count: must be a whole number"),
        ({"seed": 0, "count": 1, "first_row": -1}, "first_row: must be a whole number"),
        ({"seed": 0, "count": 1, "first_row": 1.5}, "first_row: must be a whole number"),
        ({"count": 1, "first_row": 1}, "first_row: is a position in the stream of a seed; give the seed, too"),
        ({"latents": [[0.0] * 6], "first_row": 1}, "first_row: is a position in the stream of a seed"),
    ],
)
def test_rows_that_cannot_be_are_refused_at_once(
    server: FakeServer, client: GanClient, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        client.generate_chunks("dcgan", **arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert server.list_calls == 0


def test_later_rows_need_a_distribution_that_the_client_can_draw(server: FakeServer, client: GanClient) -> None:
    server.models = [model(latent_distribution="uniform")]
    with pytest.raises(InvalidRequest, match=r"count: at most 256 for 'dcgan', from row 0.*'uniform'"):
        next(client.generate_chunks("dcgan", seed=0, count=2, first_row=1))
