from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc
from tritonclient.utils import InferenceServerException

from server import app
from server.app import Server
from server.open_inference.stream import MAX_IN_FLIGHT
from tests.server.open_inference.inference_requests import (
    FakeBatcher,
    array_of,
    infer_request,
    parameter,
    requested,
    served,
)
from tests.server.scheduling.held_run import settle, until
from tests.server.tiny_bundles import tiny_images, tiny_pixels

Start = Callable[..., Awaitable[Server]]


def latents(value: float, rows: int = 1) -> Any:
    return np.full((rows, 4), value, np.float32)


def numbered(number: int, **more: Any) -> pb.ModelInferRequest:
    return infer_request(latents(number), id=str(number), outputs=requested("pixels"), **more)


@pytest.fixture
def stream(server: Server, connect: Callable[[Server], grpc.aio.Channel]) -> Callable[..., Any]:
    """Opens streams of ModelStreamInfer."""
    make_stub: Any = pb_grpc.GRPCInferenceServiceStub
    open_stream: Callable[..., Any] = make_stub(connect(server)).ModelStreamInfer
    return open_stream


@pytest.fixture
def fake(server: Server) -> FakeBatcher:
    """The batcher of "tiny", which answers when the test releases it."""
    card = server.core.catalog["tiny"].card
    batcher = FakeBatcher(card, held=True)
    server.core.catalog.add(served(card, batcher))
    return batcher


async def test_each_message_is_answered_in_order_and_with_its_id(stream: Any) -> None:
    sent = [infer_request(latents(number / 10, rows=1 + number % 3), id=str(number)) for number in range(20)]
    answers = [answer async for answer in stream(iter(sent))]
    assert [answer.infer_response.id for answer in answers] == [request.id for request in sent]
    for number, answer in enumerate(answers):
        rows = latents(number / 10, rows=1 + number % 3)
        assert not answer.error_message
        np.testing.assert_allclose(array_of(answer.infer_response, "images"), tiny_images(rows), atol=1e-5)


async def test_a_failed_message_gets_an_error_in_its_place_and_the_stream_continues(stream: Any) -> None:
    sent = [numbered(0), numbered(1, model_name="other"), numbered(2, parameters={"x": parameter(1)}), numbered(3)]
    answers = [answer async for answer in stream(iter(sent))]
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2", "3"]
    assert [answer.error_message for answer in answers] == [
        "",
        "no model 'other' is served: use one of tiny",
        "parameter 'x' is not supported: leave it out",
        "",
    ]
    assert [len(answer.infer_response.outputs) for answer in answers] == [1, 0, 0, 1]


async def test_a_malformed_message_is_one_error_in_the_stream(server: Server, connect: Any) -> None:
    call = connect(server).stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    bodies = [b"\xff", numbered(1).SerializeToString()]
    answers = [pb.ModelStreamInferResponse.FromString(answer) async for answer in call(iter(bodies))]
    assert answers[0].error_message.startswith("the request is not a ModelInferRequest")
    assert answers[1].infer_response.id == "1"


async def test_an_internal_error_fails_one_message_but_not_the_stream(stream: Any, server: Server) -> None:
    card = server.core.catalog["tiny"].card

    class Faulty(FakeBatcher):
        async def submit(self, inputs: Any, *more: Any) -> Any:
            if inputs[0, 0] == 1:
                raise RuntimeError("secret detail")
            return await super().submit(inputs, *more)

    server.core.catalog.add(served(card, Faulty(card)))
    answers = [answer async for answer in stream(iter([numbered(0), numbered(1), numbered(2)]))]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert "secret" not in answers[1].error_message


async def test_messages_are_processed_concurrently_and_answered_in_order(stream: Any, fake: FakeBatcher) -> None:
    call = stream(iter([numbered(number) for number in range(3)]))
    await until(lambda: len(fake.submitted) == 3)
    first = asyncio.ensure_future(call.read())
    fake.release(2)
    fake.release(1)
    await settle()
    assert not first.done()
    fake.release(0)
    answers = [await first, await call.read(), await call.read()]
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
    assert await call.read() == grpc.aio.EOF


async def test_the_messages_in_flight_per_stream_are_limited(stream: Any, fake: FakeBatcher) -> None:
    call = stream(iter([numbered(number) for number in range(MAX_IN_FLIGHT + 5)]))
    await until(lambda: len(fake.submitted) == MAX_IN_FLIGHT)
    await asyncio.gather(*(settle() for _ in range(20)))
    assert len(fake.submitted) == MAX_IN_FLIGHT
    fake.release(0)
    await call.read()
    await until(lambda: len(fake.submitted) == MAX_IN_FLIGHT + 1)
    for number in range(1, MAX_IN_FLIGHT + 1):
        fake.release(number)
    await until(lambda: len(fake.submitted) == MAX_IN_FLIGHT + 5)
    for number in range(MAX_IN_FLIGHT + 1, MAX_IN_FLIGHT + 5):
        fake.release(number)
    answers = [await call.read() for _ in range(MAX_IN_FLIGHT + 4)]
    assert [int(answer.infer_response.id) for answer in answers] == list(range(1, MAX_IN_FLIGHT + 5))


async def test_messages_in_flight_are_cancelled_when_the_client_disconnects(stream: Any, fake: FakeBatcher) -> None:
    call = stream(iter([numbered(number) for number in range(3)]))
    await until(lambda: len(fake.submitted) == 3)
    call.cancel()
    await until(lambda: fake.cancelled == 3)


async def test_final_answers_are_marked_on_request(stream: Any) -> None:
    says = {"triton_enable_empty_final_response": parameter(True)}
    answers = [answer async for answer in stream(iter([numbered(0, parameters=says), numbered(1)]))]
    assert answers[0].infer_response.parameters["triton_final_response"].bool_param
    assert not answers[1].infer_response.parameters


async def test_a_closed_gate_answers_each_message_with_the_reason(
    stream: Any, server: Server, fake: FakeBatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_PATIENCE_S", 0.0)
    call = stream()
    await call.write(numbered(0))
    await until(lambda: len(fake.submitted) == 1)
    draining = asyncio.create_task(server.drain())
    await until(lambda: server.core.gate.state == "draining")
    await call.write(numbered(1))
    await settle()
    fake.release(0)
    assert (await call.read()).infer_response.id == "0"
    assert "draining" in (await call.read()).error_message
    assert await draining
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


def large(number: int) -> pb.ModelInferRequest:
    """A message whose answer has 360 kB; of 60 of these, a connection buffers only a few that are not read."""
    return infer_request(latents(number, rows=1000), id=str(number))


async def test_a_drain_waits_for_answers_that_a_slow_client_has_not_read(
    stream: Any, server: Server, fake: FakeBatcher
) -> None:
    call = stream(iter([large(number) for number in range(60)]))
    await until(lambda: len(fake.submitted) == 60)
    for number in range(60):
        fake.release(number)
    draining = asyncio.create_task(server.drain())
    await asyncio.gather(*(settle() for _ in range(50)))
    assert not draining.done()
    answers = [answer async for answer in call]
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(60)]
    for number, answer in enumerate(answers):
        np.testing.assert_array_equal(array_of(answer.infer_response, "images"), number)
    assert await draining


async def test_a_drain_does_not_wait_for_answers_to_a_disconnected_client(
    stream: Any, server: Server, fake: FakeBatcher
) -> None:
    call = stream(iter([large(number) for number in range(60)]))
    await until(lambda: len(fake.submitted) == 60)
    for number in range(60):
        fake.release(number)
    draining = asyncio.create_task(server.drain())
    await asyncio.gather(*(settle() for _ in range(20)))
    assert not draining.done()
    call.cancel()
    assert await draining


async def test_unread_answers_are_bounded_in_bytes(start_server: Start, connect: Any) -> None:
    server = await start_server(max_response_bytes=400_000, max_pending_answer_bytes=0)
    make_stub: Any = pb_grpc.GRPCInferenceServiceStub
    call = make_stub(connect(server)).ModelStreamInfer()

    def answered(status: str) -> float:
        labels = {"model": "tiny", "version": "1", "method": "ModelStreamInfer", "status": status}
        return server.core.metrics.registry.get_sample_value("ganserve_requests_total", labels) or 0

    def all_answered(count: int) -> bool:
        return answered("OK") + answered("RESOURCE_EXHAUSTED") == count

    sent = 0
    while not answered("RESOURCE_EXHAUSTED"):  # the connection buffers the first ones
        await call.write(large(sent))
        sent += 1
        await until(partial(all_answered, sent))
        assert sent < MAX_IN_FLIGHT
    answers = [await call.read() for _ in range(sent)]
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(sent)]
    assert not any(answer.error_message for answer in answers[:-1])
    assert answers[-1].error_message.startswith("too many answers wait to be read (360")
    await call.write(large(sent))
    assert (await call.read()).infer_response.outputs
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


async def test_tritons_blocking_client_streams(server: Server) -> None:
    def run() -> list[Any]:
        results: list[Any] = []
        with triton.InferenceServerClient(str(server.address)) as client:
            client.start_stream(lambda result, error: results.append(error or result))
            for number in range(4):
                rows = triton.InferInput("latents", [2, 4], "FP32")
                rows.set_data_from_numpy(latents(number / 10, rows=2))
                client.async_stream_infer("tiny" if number != 2 else "other", [rows], request_id=str(number))
            client.stop_stream()
        return results

    results = await asyncio.to_thread(run)
    assert isinstance(results[2], InferenceServerException)
    assert "no model 'other' is served" in results[2].message()
    for number in (0, 1, 3):
        assert results[number].get_response().id == str(number)
        difference = results[number].as_numpy("pixels").astype(int) - tiny_pixels(latents(number / 10, rows=2))
        assert np.abs(difference).max() <= 1


async def test_tritons_async_client_streams(server: Server) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(3):
            rows = triton.InferInput("latents", [1, 4], "FP32")
            rows.set_data_from_numpy(latents(number))
            yield {"model_name": "tiny", "inputs": [rows], "request_id": str(number)}

    async with triton_aio.InferenceServerClient(str(server.address)) as client:
        answers = [answer async for answer in client.stream_infer(requests())]
    assert [(result.get_response().id, error) for result, error in answers] == [("0", None), ("1", None), ("2", None)]
