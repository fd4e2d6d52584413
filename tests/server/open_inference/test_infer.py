from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb

from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2
from server.app import Server
from server.errors import InvalidRequest, NotServed, QueueFull
from server.models.model_settings import ModelSettings
from server.open_inference import infer as module
from server.rpc.parsing import THREAD_WORTHY_BYTES
from tests.server.open_inference.inference_requests import (
    FakeBatcher,
    array_of,
    arrived,
    infer_request,
    input_of,
    model_infer,
    parameter,
    refusal,
    requested,
    served,
)
from tests.server.scheduling.held_run import settle, until
from tests.server.tiny_bundles import publish_tiny_translator, tiny_images, tiny_pixels, tiny_translation
from tests.server.tiny_cards import GENERATOR, TRANSLATOR, translator_of

LATENTS = np.arange(8, dtype=np.float32).reshape(2, 4)
PIXELS = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)


async def infer(answerer: module.ModelInfer, request: pb.ModelInferRequest, **call_fields: Any) -> Any:
    return pb.ModelInferResponse.FromString(await answerer.infer(request.SerializeToString(), arrived(**call_fields)))


def many_typed_values() -> pb.ModelInferRequest:
    request = infer_request(np.ones((1 << 13, 4), np.float32), raw_input_contents=[])
    request.inputs[0].contents.fp32_contents.extend([1.0] * (1 << 15))
    assert request.ByteSize() < THREAD_WORTHY_BYTES
    return request


@pytest.mark.parametrize(
    ("names", "computed"),
    [
        ((), {"images", "pixels"}),
        (("pixels",), {"pixels"}),
        (("images",), {"images"}),
        (("pixels", "images"), {"images", "pixels"}),
    ],
)
async def test_only_requested_outputs_are_computed_and_sent(names: tuple[str, ...], computed: set[str]) -> None:
    batcher = FakeBatcher(GENERATOR)
    response = await infer(model_infer(GENERATOR, batcher), infer_request(LATENTS, outputs=requested(*names)))
    assert batcher.submitted[0][1] == computed
    assert [output.name for output in response.outputs] == list(names or ("images", "pixels"))
    for name in computed:
        np.testing.assert_array_equal(array_of(response, name)[:, 0, 0, 0], [0, 4])


@pytest.mark.parametrize("request_id", ["", "42", "h\N{LATIN SMALL LETTER E WITH ACUTE}llo", "i" * 256])
async def test_an_answer_names_the_request_the_model_and_its_version(request_id: str) -> None:
    response = await infer(model_infer(GENERATOR, FakeBatcher(GENERATOR)), infer_request(LATENTS, id=request_id))
    assert (response.id, response.model_name, response.model_version) == (request_id, "tiny", "3")


@pytest.mark.parametrize(("rows", "card"), [(LATENTS, GENERATOR), (PIXELS, TRANSLATOR)], ids=["latents", "pixels"])
async def test_raw_rows_reach_the_batcher_unchanged(rows: Any, card: Any) -> None:
    batcher = FakeBatcher(card)
    await infer(model_infer(card, batcher), infer_request(rows))
    assert batcher.submitted[0][0].dtype == rows.dtype
    np.testing.assert_array_equal(batcher.submitted[0][0], rows)


@pytest.mark.parametrize(
    ("rows", "card", "field"),
    [(LATENTS, GENERATOR, "fp32_contents"), (PIXELS, TRANSLATOR, "uint_contents")],
    ids=["latents", "pixels"],
)
async def test_typed_rows_give_the_same_images_as_raw_rows(rows: Any, card: Any, field: str) -> None:
    answerer = model_infer(card, FakeBatcher(card))
    typed = infer_request(rows, raw_input_contents=[])
    getattr(typed.inputs[0].contents, field).extend(rows.ravel().tolist())
    assert await infer(answerer, typed) == await infer(answerer, infer_request(rows))


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: infer_request(np.ones((THREAD_WORTHY_BYTES // 16, 4), np.float32)),
        many_typed_values,
    ],
    ids=["large", "typed"],
)
async def test_slow_requests_are_read_off_the_event_loop(request_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = FakeBatcher(GENERATOR)
    in_threads: list[str] = []
    to_thread: Any = asyncio.to_thread

    async def noted(function: Any, *args: Any, **more: Any) -> Any:
        in_threads.append(function.__name__)
        return await to_thread(function, *args, **more)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    limits = {"max_request_rows": 1 << 16, "max_queue_rows": 1 << 20}
    request = request_of()
    request.outputs.extend(requested("pixels"))
    response = await infer(model_infer(GENERATOR, batcher, **limits), request)
    assert "admit_inference" in in_threads
    assert array_of(response, "pixels").shape[0] == request.inputs[0].shape[0]


async def test_a_request_records_model_rows_and_phases() -> None:
    noted = arrived()
    await model_infer(GENERATOR, FakeBatcher(GENERATOR)).infer(
        infer_request(LATENTS, id="42").SerializeToString(), noted
    )
    assert (noted.model, noted.version, noted.rows, noted.request_id) == ("tiny", 3, 2, "42")
    for phase in (noted.admission_s, noted.compute_s, noted.encode_s):
        assert phase is not None
        assert phase >= 0


async def test_a_refused_request_records_its_model() -> None:
    noted = arrived(request_id="of the header")
    with pytest.raises(NotServed):
        await model_infer(GENERATOR, FakeBatcher(GENERATOR)).infer(
            infer_request(LATENTS, model_name="other", id="42").SerializeToString(), noted
        )
    assert (noted.model, noted.version, noted.rows, noted.request_id) == ("other", 0, 0, "42")


async def test_a_refused_request_is_logged_with_its_truncated_id() -> None:
    noted = arrived(request_id="of the header")
    with pytest.raises(InvalidRequest, match="id has 300 characters"):
        await model_infer(GENERATOR, FakeBatcher(GENERATOR)).infer(
            infer_request(LATENTS, id="i" * 300).SerializeToString(), noted
        )
    assert noted.request_id == "i" * 256


@pytest.mark.parametrize(("sent", "priority"), [({}, 2), ({"priority": 0}, 2), ({"priority": 1}, 1)])
async def test_the_priority_is_passed_on(sent: dict[str, int], priority: int) -> None:
    batcher = FakeBatcher(GENERATOR)
    parameters = {name: parameter(value) for name, value in sent.items()}
    await infer(model_infer(GENERATOR, batcher), infer_request(LATENTS, parameters=parameters))
    assert batcher.submitted[0][3] == priority


@pytest.mark.parametrize(
    ("remaining_s", "timeout_s", "expected_s"),
    [(None, None, None), (5.0, None, 5.0), (None, 3.0, 3.0), (5.0, 3.0, 3.0), (3.0, 5.0, 3.0), (5.0, 0.0, 5.0)],
)
async def test_the_earlier_of_deadline_and_timeout_applies(
    remaining_s: float | None, timeout_s: float | None, expected_s: float | None
) -> None:
    batcher = FakeBatcher(GENERATOR)
    parameters = {} if timeout_s is None else {"timeout": parameter(int(timeout_s * 1e6))}
    now = asyncio.get_running_loop().time()
    deadline = {} if remaining_s is None else {"deadline": now + remaining_s}
    await infer(model_infer(GENERATOR, batcher), infer_request(LATENTS, parameters=parameters), **deadline)
    expected = np.inf if expected_s is None else now + expected_s
    assert batcher.submitted[0][2] == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"model_name": "other"}, NotServed, "no model 'other' is served: use one of tiny"),
        ({"model_name": ""}, NotServed, "model is empty: use one of tiny"),
        ({"model_version": "2"}, NotServed, "version 2 of 'tiny' is not served: use version 3"),
        ({"model_version": "newest"}, NotServed, "'tiny' has no version label 'newest': use version 3, or 0"),
        ({"model_version": "1.5"}, InvalidRequest, "model_version is '1.5': send a number or a label"),
        ({"inputs": []}, InvalidRequest, "inputs has 0 tensors: send one, 'latents'"),
        ({"raw_input_contents": []}, InvalidRequest, "raw_input_contents has 0 entries for 1 input"),
        ({"outputs": requested("pixels", "pixels")}, InvalidRequest, "output 'pixels' is requested twice"),
        ({"parameters": {"priority": parameter(9)}}, InvalidRequest, "parameters.priority is 9"),
    ],
)
async def test_invalid_requests_are_refused_before_they_are_queued(
    changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    batcher = FakeBatcher(GENERATOR)
    with pytest.raises(kind, match=message):
        await infer(model_infer(GENERATOR, batcher), infer_request(LATENTS, **changes))
    assert not batcher.submitted


@pytest.mark.parametrize("version", ["", "0", "3"])
async def test_the_served_version_is_found_by_number_or_by_default(version: str) -> None:
    answerer = model_infer(GENERATOR, FakeBatcher(GENERATOR))
    assert (await infer(answerer, infer_request(LATENTS, model_version=version))).model_version == "3"


@pytest.mark.parametrize("body", [b"\xff", b"\xff" * THREAD_WORTHY_BYTES], ids=["small", "large"])
async def test_a_malformed_message_is_invalid(body: bytes) -> None:
    answerer = model_infer(GENERATOR, FakeBatcher(GENERATOR))
    with pytest.raises(InvalidRequest, match="the request is not a ModelInferRequest: send one as grpc_"):
        await answerer.infer(body, arrived())


async def test_images_in_progress_count_as_sent_and_as_read() -> None:
    batcher = FakeBatcher(TRANSLATOR, held=True)
    body = infer_request(PIXELS).SerializeToString()
    answerer = model_infer(TRANSLATOR, batcher, budget_bytes=len(body) + PIXELS.nbytes)
    first = asyncio.create_task(answerer.infer(body, arrived()))
    await settle()
    with pytest.raises(QueueFull, match="too much input waits"):
        await answerer.infer(body, arrived())
    batcher.release(0)
    await first
    second = asyncio.create_task(answerer.infer(body, arrived()))
    await settle()
    batcher.release(1)
    assert await second == await first


async def test_small_latents_need_no_budget_and_large_requests_of_any_kind_do() -> None:
    answerer = model_infer(GENERATOR, FakeBatcher(GENERATOR), budget_bytes=1)
    await infer(answerer, infer_request(LATENTS))
    large = infer_request(np.ones((THREAD_WORTHY_BYTES // 16, 4), np.float32))
    with pytest.raises(QueueFull, match="too much input waits"):
        await infer(answerer, large)


async def test_the_budget_of_a_cancelled_request_is_released_when_its_thread_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answerer = model_infer(GENERATOR, FakeBatcher(GENERATOR), max_request_rows=1 << 16)
    admitting, released = threading.Event(), threading.Event()

    def admit(*_: Any) -> None:
        admitting.set()
        assert released.wait(20)

    monkeypatch.setattr(module, "admit_inference", admit)
    body = infer_request(np.ones((THREAD_WORTHY_BYTES // 16, 4), np.float32)).SerializeToString()
    caller = asyncio.create_task(answerer.infer(body, arrived()))
    await until(admitting.is_set)
    caller.cancel()
    await settle()
    budget = vars(answerer)["_input_budget"]
    assert budget.used_bytes == len(body)
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert budget.used_bytes == 0


async def test_a_new_version_is_answered_in_its_own_shapes() -> None:
    small, large = (translator_of(3, side, side) for side in (2, 5))
    answerer = model_infer(small, FakeBatcher(small))
    catalog = vars(answerer)["_catalog"]
    for card in (small, large):
        catalog.add(served(card, FakeBatcher(card)))
        rows = np.full((1, card.height, card.width, 3), 9, np.uint8)
        response = await infer(answerer, infer_request(rows, outputs=requested("pixels")))
        np.testing.assert_array_equal(array_of(response, "pixels"), rows)


async def test_a_repeated_request_follows_its_label_to_another_version() -> None:
    cards = [msgspec.structs.replace(GENERATOR, version=version) for version in (3, 4)]
    answerer = model_infer(cards[0], FakeBatcher(cards[0]))
    catalog = vars(answerer)["_catalog"]
    catalog.add(served(cards[1], FakeBatcher(cards[1])))
    for stable in (3, 3, 4, 4, 3):
        catalog.choose("tiny", None, ModelSettings(labels={"stable": stable}))
        for wanted, answered in (("stable", stable), ("3", 3), ("", 4)):
            response = await infer(answerer, infer_request(LATENTS, model_version=wanted))
            assert response.model_version == str(answered)


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Any]:
    """Triton's own asynchronous client of `server`."""
    async with triton_aio.InferenceServerClient(str(server.address)) as one:
        yield one


async def test_images_equal_those_of_generate(client: Any, server: Server, stub: Any) -> None:
    latents = latents_from_seed(3, 5, 4)
    result = await client.infer("tiny", [input_of(latents)], request_id="a")
    assert result.get_response().id == "a"
    np.testing.assert_allclose(result.as_numpy("images"), tiny_images(latents), atol=1e-5)
    for name, image_format, dtype in (
        ("images", generator_pb2.IMAGE_FORMAT_FLOAT32, "<f4"),
        ("pixels", generator_pb2.IMAGE_FORMAT_PIXELS, "u1"),
    ):
        tensor = generator_pb2.Tensor(
            dtype=generator_pb2.DATA_TYPE_FLOAT32, shape=latents.shape, data=latents.tobytes()
        )
        request = generator_pb2.GenerateRequest(model="tiny", latents=tensor, format=image_format)
        generated = np.frombuffer((await stub.Generate(request)).images.data, dtype)
        np.testing.assert_array_equal(result.as_numpy(name).ravel(), generated)


async def test_images_are_translated(repository: Path, start_server: Start) -> None:
    publish_tiny_translator(repository)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    server = await start_server()
    async with triton_aio.InferenceServerClient(str(server.address)) as client:
        result = await client.infer(
            "tiny-a2b", [input_of(pixels, "input_pixels", "UINT8")], outputs=[triton.InferRequestedOutput("pixels")]
        )
    np.testing.assert_array_equal(result.as_numpy("pixels"), tiny_translation(pixels))
    assert result.as_numpy("images") is None


async def test_large_requests_are_split_and_gathered(start_server: Start) -> None:
    server = await start_server(max_batch_size=16)
    latents = latents_from_seed(3, 1000, 4)
    options = [("grpc.max_receive_message_length", -1)]
    async with triton_aio.InferenceServerClient(str(server.address), channel_args=options) as client:
        result = await client.infer("tiny", [input_of(latents)])
    np.testing.assert_allclose(result.as_numpy("images"), tiny_images(latents), atol=1e-5)


async def test_concurrent_clients_get_their_own_images(client: Any) -> None:
    sent = [latents_from_seed(seed, 1 + seed % 7, 4) for seed in range(40)]
    results = await asyncio.gather(*(client.infer("tiny", [input_of(latents)]) for latents in sent))
    for latents, result in zip(sent, results, strict=True):
        np.testing.assert_allclose(result.as_numpy("images"), tiny_images(latents), atol=1e-5)


async def test_priorities_and_timeouts_of_tritons_client_are_accepted(client: Any) -> None:
    latents = latents_from_seed(1, 2, 4)
    result = await client.infer("tiny", [input_of(latents)], priority=1, timeout=60_000_000)
    difference = result.as_numpy("pixels").astype(int) - tiny_pixels(latents)
    assert np.abs(difference).max() <= 1


async def test_an_expired_timeout_is_deadline_exceeded(client: Any, server: Server, hold: Any) -> None:
    held = hold(server)
    first = asyncio.create_task(client.infer("tiny", [input_of(latents_from_seed(1, 1, 4))], client_timeout=20))
    await held.started()
    code, message = await refusal(client.infer("tiny", [input_of(latents_from_seed(2, 1, 4))], timeout=1000))
    assert code == "DEADLINE_EXCEEDED"
    assert message.startswith("the deadline")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_refusals_reach_the_client_with_their_status(client: Any) -> None:
    latents = latents_from_seed(1, 2, 4)
    output = triton.InferRequestedOutput("pixels", class_count=3)
    shared = triton.InferRequestedOutput("pixels")
    shared.set_shared_memory("region", 144)
    wide = latents_from_seed(1, 2, 5)
    for answer, code, message in (
        (client.infer("other", [input_of(latents)]), "NOT_FOUND", "no model 'other' is served: use one of tiny"),
        (client.infer("tiny", [input_of(latents)], "2"), "NOT_FOUND", "version 2 of 'tiny' is not served"),
        (client.infer("tiny", [input_of(wide)]), "INVALID_ARGUMENT", "latents.shape is (2, 5): 'tiny' takes (rows, 4)"),
        (client.infer("tiny", [input_of(latents)] * 2), "INVALID_ARGUMENT", "inputs has 2 tensors"),
        (client.infer("tiny", [input_of(latents)], outputs=[output]), "INVALID_ARGUMENT", "'classification'"),
        (client.infer("tiny", [input_of(latents)], outputs=[shared]), "INVALID_ARGUMENT", "'shared_memory_"),
        (client.infer("tiny", [input_of(latents)], sequence_id=7), "INVALID_ARGUMENT", "parameters.sequence_"),
        (client.infer("tiny", [input_of(latents)], parameters={"x": 1}), "INVALID_ARGUMENT", "parameter 'x'"),
        (client.infer("tiny", [input_of(latents)], priority=4), "INVALID_ARGUMENT", "parameters.priority is 4"),
        (client.infer("tiny", [input_of(latents)], request_id="i" * 257), "INVALID_ARGUMENT", "id has 257 characters"),
    ):
        status, details = await refusal(answer)
        assert status == code
        assert message in details
