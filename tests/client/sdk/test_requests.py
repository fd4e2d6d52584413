"""Requests that are too large, too slow, or come while the server is busy."""

from __future__ import annotations

import contextlib
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
from client.sdk.channel import endpoint_of
from client.sdk.latents import SeededRows
from client.sdk.messages import Arrays
from client.sdk.steps import Emit, Send, Wait
from client.sdk.transport import Connection
from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, encoded, model, pixels_of, rows_of, translator

Code = grpc.StatusCode
FILE = encoded(np.zeros((4, 3, 3), np.uint8))


@pytest.fixture
def connection(server: FakeServer) -> Iterator[Connection]:
    with Connection(endpoint_of(server.address, timeout_s=20)) as opened:
        yield opened


def patient(connection: Connection, pauses_s: list[float]) -> Translator:
    """A translator whose pauses are only noted."""
    return Translator(connection, "a2b", None, resize=False, image_format="png", sleep=pauses_s.append)


def test_a_busy_server_is_asked_again_after_growing_pauses(server: FakeServer, connection: Connection) -> None:
    server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * 4)
    pauses_s: list[float] = []
    [(rows, response)] = patient(connection, pauses_s).send([FILE] * 2)
    assert (rows, len(response.encoded.data)) == (2, 2)
    assert len(server.translations) == 5
    assert pauses_s == pytest.approx(BUSY_PAUSES_S[:4], rel=0.26)
    assert pauses_s == sorted(pauses_s)


def test_a_server_that_stays_busy_is_left_after_about_30_s(server: FakeServer, connection: Connection) -> None:
    server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * 50)
    pauses_s: list[float] = []
    with pytest.raises(ServerBusy, match="the queue is full"):
        list(patient(connection, pauses_s).send([FILE]))
    assert 20 < sum(pauses_s) < 40
    assert len(server.translations) == len(pauses_s) + 1


def test_each_request_has_pauses_of_its_own(server: FakeServer, connection: Connection) -> None:
    asked = patient(connection, [])
    for _ in range(3):
        server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * len(BUSY_PAUSES_S))
        assert len(list(asked.send([FILE]))) == 1


def test_translations_of_the_sdk_wait_too(
    server: FakeServer, client: GanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.sdk.calls.BUSY_PAUSES_S", (0.0,))
    server.failures.append((Code.RESOURCE_EXHAUSTED, "the queue is full"))
    assert len(client.translate("a2b", [FILE] * 3)) == 3


def test_what_misses_its_deadline_is_halved_and_the_next_chunks_are_smaller(
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


def test_a_single_row_that_misses_its_deadline_is_the_end(server: FakeServer, connection: Connection) -> None:
    server.rows_in_time = 0
    with pytest.raises(DeadlineExceeded, match="too slow"):
        list(patient(connection, []).send([FILE] * 4))
    assert [rows_of(request) for request in server.translations] == [4, 2, 1]


def test_a_message_larger_than_the_server_receives_is_said_so() -> None:
    server = FakeServer()
    with (
        server.serve(max_received_bytes=4000),
        GanClient(server.address) as client,
        pytest.raises(InvalidRequest, match=r"the request is larger than the server at .* accepts .*send fewer or sma"),
    ):
        client.translate("a2b", [FILE + bytes(5000)])
    assert server.translations == []


def test_requests_keep_to_the_size_that_the_server_says() -> None:
    server = FakeServer()
    server.models = [translator(max_request_bytes=4000), model(latent_dim=100, max_request_bytes=4000)]
    latents = np.random.default_rng(0).standard_normal((30, 100), dtype=np.float32)
    images = np.random.default_rng(0).integers(0, 256, (300, 4, 3, 3), dtype=np.uint8)
    with server.serve(max_received_bytes=4000), GanClient(server.address) as client:
        np.testing.assert_array_equal(client.generate("dcgan", latents=latents), pixels_of(latents, 4, 3, 1))
        np.testing.assert_array_equal(client.translate("a2b", images), 255 - images)
        assert len(client.translate("a2b", [FILE] * 100)) == 100
        seeded = client.generate("dcgan", seed=0, count=200)  # a seed takes no room
    assert len(seeded) == 200
    assert [request.latents.shape[0] for request in server.requests[:-1]] == [9, 9, 9, 3]
    assert max(map(rows_of, server.translations)) > 4


@given(
    count=st.integers(1, 40),
    max_rows=st.integers(1, 9),
    ahead=st.integers(1, 5),
    version=st.sampled_from([None, 3]),
)
def test_steps_keep_the_order_and_the_bound_of_what_is_on_its_way(
    count: int, max_rows: int, ahead: int, version: int | None
) -> None:
    """Without any channel: this test is the driver."""
    server = FakeServer()
    server.models = [model(max_request_rows=max_rows)]
    steps = generated(Catalog("nowhere"), "dcgan", SeededRows(5, count), version, Arrays("pixels"), ahead)
    on_its_way, most, answered, images = 0, 0, 0, []
    requests = -(-count // max_rows)
    reply: Any = None
    with contextlib.suppress(StopIteration):
        while True:
            step = steps.send(reply)
            reply = None
            if isinstance(step, Send):
                on_its_way += step.method == "Generate"
                most = max(most, on_its_way)
                assert version or answered or on_its_way <= 1  # the first answer tells the version
                reply = step.request
            elif isinstance(step, Wait) and isinstance(step.handle, pb.GenerateRequest):
                on_its_way -= 1
                assert version or not answered or step.handle.version == 3
                answered += 1
                reply = server.images_for(step.handle)
            elif isinstance(step, Wait):
                reply = pb.ListModelsResponse(models=server.models)
            elif isinstance(step, Emit):
                assert on_its_way == (0 if ahead == 1 else min(ahead, requests - answered))
                images.append(step.value.images)
    np.testing.assert_array_equal(np.concatenate(images), pixels_of(latents_from_seed(5, count, 6), 4, 3, 1))
    assert (most, on_its_way) == (min(ahead, max(1, requests - (version is None))), 0)
