"""How calls become requests: their sizes, order and versions, and how they handle a busy or slow server."""

from __future__ import annotations

import contextlib
import itertools
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import DeadlineExceeded, GanClient, InvalidRequest, ServerBusy
from client.sdk.calls import BUSY_PAUSES_S, Translator, generated
from client.sdk.catalog import Catalog
from client.sdk.latents import MAX_STREAM_ROWS, SeededRows
from client.sdk.messages import Arrays
from client.sdk.steps import Emit, Send, Wait
from client.sdk.transport import Connection
from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, encoded, model, pixels_of, rows_of, translator, waits_for_three

Code = grpc.StatusCode
FILE = encoded(np.zeros((4, 3, 3), np.uint8))


@pytest.fixture
def connection(server: FakeServer) -> Iterator[Connection]:
    with Connection(server.address, timeout_s=20) as opened:
        yield opened


def patient(connection: Connection, pauses_s: list[float]) -> Translator:
    """A translator that records its pauses instead of sleeping."""
    return Translator(connection, "a2b", None, resize=False, image_format="png", sleep=pauses_s.append)


def test_a_busy_server_is_retried_after_growing_pauses(server: FakeServer, connection: Connection) -> None:
    server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * 4)
    pauses_s: list[float] = []
    [(rows, response)] = patient(connection, pauses_s).send([FILE] * 2)
    assert (rows, len(response.encoded.data)) == (2, 2)
    assert len(server.translations) == 5
    assert pauses_s == pytest.approx(BUSY_PAUSES_S[:4], rel=0.26)
    assert pauses_s == sorted(pauses_s)


def test_retries_of_a_busy_server_end_after_about_30_s(server: FakeServer, connection: Connection) -> None:
    server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * 50)
    pauses_s: list[float] = []
    with pytest.raises(ServerBusy, match="the queue is full"):
        list(patient(connection, pauses_s).send([FILE]))
    assert 20 < sum(pauses_s) < 40
    assert len(server.translations) == len(pauses_s) + 1


def test_each_request_has_its_own_pauses(server: FakeServer, connection: Connection) -> None:
    asked = patient(connection, [])
    for _ in range(3):
        server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * len(BUSY_PAUSES_S))
        assert len(list(asked.send([FILE]))) == 1


def test_sdk_translations_wait_for_a_busy_server(
    server: FakeServer, client: GanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.sdk.calls.BUSY_PAUSES_S", (0.0,))
    server.failures.append((Code.RESOURCE_EXHAUSTED, "the queue is full"))
    assert len(client.translate("a2b", [FILE] * 3)) == 3


def test_a_request_that_misses_its_deadline_is_halved_and_the_next_chunks_are_smaller(
    server: FakeServer, connection: Connection
) -> None:
    asked = patient(connection, [])
    server.rows_in_time = 2
    chunks = asked.chunks_of([FILE] * 100, len)
    assert [rows for rows, _ in asked.send(next(chunks))] == [2, 2]
    assert [rows_of(request) for request in server.translations] == [4, 2, 2]
    server.rows_in_time = 1
    [first, *others] = [rows for rows, _ in asked.send(next(chunks))]
    assert (first, set(others)) == (1, {1})
    assert len(next(chunks)) <= 2


def test_a_single_row_that_misses_its_deadline_is_an_error(server: FakeServer, connection: Connection) -> None:
    server.rows_in_time = 0
    with pytest.raises(DeadlineExceeded, match="too slow"):
        list(patient(connection, []).send([FILE] * 4))
    assert [rows_of(request) for request in server.translations] == [4, 2, 1]


def test_a_message_larger_than_the_server_accepts_is_refused_with_the_remedy() -> None:
    server = FakeServer()
    with (
        server.serve(max_received_bytes=4000),
        GanClient(server.address) as client,
        pytest.raises(InvalidRequest, match=r"the request is larger than the server at .* accepts .*send fewer or sma"),
    ):
        client.translate("a2b", [FILE + bytes(5000)])
    assert server.translations == []


def test_requests_respect_the_servers_size_limit() -> None:
    server = FakeServer()
    server.models = [translator(max_request_bytes=4000), model(latent_dim=100, max_request_bytes=4000)]
    latents = np.random.default_rng(0).standard_normal((30, 100), dtype=np.float32)
    images = np.random.default_rng(0).integers(0, 256, (300, 4, 3, 3), dtype=np.uint8)
    with server.serve(max_received_bytes=4000), GanClient(server.address) as client:
        np.testing.assert_array_equal(client.generate("dcgan", latents=latents), pixels_of(latents, 4, 3, 1))
        np.testing.assert_array_equal(client.translate("a2b", images), 255 - images)
        assert len(client.translate("a2b", [FILE] * 100)) == 100
        seeded = client.generate("dcgan", seed=0, count=200)  # a seed takes no space
    assert len(seeded) == 200
    assert [request.latents.shape[0] for request in server.requests[:-1]] == [9, 9, 9, 3]
    assert max(map(rows_of, server.translations)) > 4


@given(
    count=st.integers(1, 40),
    max_rows=st.integers(1, 9),
    ahead=st.integers(1, 5),
    version=st.sampled_from([None, 3]),
)
def test_steps_keep_order_and_the_limit_of_requests_in_flight(
    count: int, max_rows: int, ahead: int, version: int | None
) -> None:
    """Without any channel: this test is the driver."""
    server = FakeServer()
    server.models = [model(max_request_rows=max_rows)]
    steps = generated(Catalog("nowhere"), "dcgan", SeededRows(5, count), version, Arrays("pixels"), ahead)
    in_flight, most, answered, images = 0, 0, 0, []
    requests = -(-count // max_rows)
    reply: Any = None
    with contextlib.suppress(StopIteration):
        while True:
            step = steps.send(reply)
            reply = None
            if isinstance(step, Send):
                in_flight += step.method == "Generate"
                most = max(most, in_flight)
                assert version or answered or in_flight <= 1  # the first response sets the version
                reply = step.request
            elif isinstance(step, Wait) and isinstance(step.handle, pb.GenerateRequest):
                in_flight -= 1
                assert version or not answered or step.handle.version == 3
                answered += 1
                reply = server.images_for(step.handle)
            elif isinstance(step, Wait):
                reply = pb.ListModelsResponse(models=server.models)
            elif isinstance(step, Emit):
                assert in_flight == (0 if ahead == 1 else min(ahead, requests - answered))
                images.append(step.value.images)
    np.testing.assert_array_equal(np.concatenate(images), pixels_of(latents_from_seed(5, count, 6), 4, 3, 1))
    assert (most, in_flight) == (min(ahead, max(1, requests - (version is None))), 0)


def test_one_request_per_channel_is_in_flight_and_images_keep_their_order(server: FakeServer, wide: GanClient) -> None:
    waits_for_three(server)
    images = wide.generate("dcgan", seed=9, count=256 * 7 - 5)
    np.testing.assert_array_equal(images, pixels_of(latents_from_seed(9, 256 * 7 - 5, 6), 4, 3, 1))
    assert len(server.peers) == 3


def test_responses_out_of_order_are_reordered(server: FakeServer, wide: GanClient) -> None:
    second_has_answered = threading.Event()
    places = itertools.count(1)

    def answer(request: pb.GenerateRequest) -> pb.GenerateResponse:
        place = next(places)  # taken once: requests run concurrently
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


def test_the_first_response_pins_the_version(server: FakeServer, wide: GanClient) -> None:
    waits_for_three(server)
    server.models = [model(version=3)]
    chunks = wide.generate_chunks("dcgan", seed=0, count=256 * 4)
    first = next(chunks)
    server.models.append(model(version=4))
    assert {first.version, *(chunk.version for chunk in chunks)} == {3}
    assert [request.version for request in server.requests] == [0, 3, 3, 3]


def test_no_more_requests_are_sent_than_may_be_in_flight(server: FakeServer, wide: GanClient) -> None:
    chunks = wide.generate_chunks("dcgan", seed=0, count=MAX_STREAM_ROWS)
    next(chunks)
    next(chunks)
    chunks.close()
    assert 2 <= len(server.requests) <= 2 + 3


@pytest.mark.parametrize("channels", [1, 3])
def test_a_count_that_has_begun_to_arrive_waits_for_a_busy_server(
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
def test_first_row_gives_the_later_rows_of_a_longer_count(
    server: FakeServer, client: GanClient, first_row: int, count: int
) -> None:
    expected = pixels_of(latents_from_seed(7, first_row + count, 6)[first_row:], 4, 3, 1)
    chunks = client.generate_chunks("dcgan", seed=7, count=count, first_row=first_row)
    np.testing.assert_array_equal(np.concatenate([chunk.images for chunk in chunks]), expected)
    files = client.generate_encoded_chunks("dcgan", seed=7, count=count, first_row=first_row)
    assert sum(len(chunk.files) for chunk in files) == count
    assert max(map(rows_of, server.requests)) <= 256


def test_a_million_rows_need_the_memory_of_a_few_chunks(server: FakeServer, client: GanClient) -> None:
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
def test_invalid_rows_are_refused_up_front(
    server: FakeServer, client: GanClient, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        client.generate_chunks("dcgan", **arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert server.list_calls == 0


def test_later_rows_need_a_distribution_that_the_client_can_draw(server: FakeServer, client: GanClient) -> None:
    server.models = [model(latent_distribution="cauchy")]
    with pytest.raises(InvalidRequest, match=r"count: at most 256 for 'dcgan', from row 0.*'cauchy'"):
        next(client.generate_chunks("dcgan", seed=0, count=2, first_row=1))
