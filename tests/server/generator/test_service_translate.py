from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ganserve.pictures import fit_picture
from ganserve.v1 import generator_pb2 as pb
from server.app import Server
from server.errors import QueueFull
from server.generator import image_reader
from server.generator.images import AdmittedImages
from server.scheduling.batcher import Batcher
from server.scheduling.instances import InstanceGroups
from tests.picture_files import encoded, noise, png_that_claims
from tests.server.generator.translate_requests import GOOD, INVALID, SIZE, files, raw, refusal, stub_of
from tests.server.scheduling.held_run import until
from tests.server.tiny_bundles import publish_tiny_translator, tiny_translation, tiny_translation_images

Start = Callable[..., Awaitable[Server]]
Connect = Callable[[Server], grpc.aio.Channel]


@pytest.fixture
def repository(repository: Path) -> Path:
    """Holds "tiny", "tiny-a2b" and the gray "gray-a2b"."""
    publish_tiny_translator(repository)
    publish_tiny_translator(repository, "gray-a2b", shape=(1, *SIZE))
    return repository


def array_of(tensor: pb.Tensor) -> NDArray[Any]:
    dtype = {pb.DATA_TYPE_FLOAT32: "<f4", pb.DATA_TYPE_UINT8: "u1"}[tensor.dtype]
    return np.frombuffer(tensor.data, dtype).reshape(tuple(tensor.shape))


def decoded(response: pb.TranslateResponse, kind: str, channels: int) -> NDArray[np.uint8]:
    images = [Image.open(io.BytesIO(data)) for data in response.encoded.data]
    assert all(image.format == kind for image in images)
    return np.stack([np.asarray(image).reshape(*SIZE, channels) for image in images])


FORMATS = {
    "PIXELS": pb.IMAGE_FORMAT_PIXELS,
    "FLOAT32": pb.IMAGE_FORMAT_FLOAT32,
    "PNG": pb.IMAGE_FORMAT_PNG,
    "JPEG": pb.IMAGE_FORMAT_JPEG,
}


def assert_translated(response: pb.TranslateResponse, pixels: NDArray[np.uint8], image_format: str) -> None:
    expected = tiny_translation(pixels)
    match image_format:
        case "PIXELS":
            np.testing.assert_array_equal(array_of(response.images), expected)
        case "FLOAT32":
            np.testing.assert_allclose(array_of(response.images), tiny_translation_images(pixels), atol=1e-6)
        case "PNG":
            np.testing.assert_array_equal(decoded(response, "PNG", pixels.shape[3]), expected)
        case _:
            difference = decoded(response, "JPEG", pixels.shape[3]).astype(int) - expected.astype(int)
            assert np.abs(difference).mean() < 8


async def test_every_input_kind_works_with_every_format(stub: Any) -> None:
    for (model, channels), way_in in product([("tiny-a2b", 3), ("gray-a2b", 1)], ["pixels", "PNG", "JPEG"]):
        pixels = noise(3, *SIZE, channels)
        request = raw(pixels, model=model)
        if way_in != "pixels":
            sent = [encoded(image.squeeze(2) if channels == 1 else image, way_in) for image in pixels]
            pixels = np.stack([np.asarray(Image.open(io.BytesIO(data))).reshape(*SIZE, channels) for data in sent])
            request = files(*sent, model=model)
        default = await stub.Translate(request)
        assert (default.model, default.version) == (model, 1)
        assert_translated(default, pixels, "PIXELS" if way_in == "pixels" else "PNG")
        for name, number in FORMATS.items():
            request.format = number
            assert_translated(await stub.Translate(request), pixels, name)


async def test_concurrent_clients_get_their_own_images(stub: Any) -> None:
    sent = [noise(1 + seed % 7, *SIZE, 3, seed=seed) for seed in range(30)]
    requests = [
        files(*map(encoded, pixels), format=pb.IMAGE_FORMAT_PIXELS) if index % 3 else raw(pixels)
        for index, pixels in enumerate(sent)
    ]
    responses = await asyncio.gather(*(stub.Translate(request) for request in requests))
    for pixels, response in zip(sent, responses, strict=True):
        np.testing.assert_array_equal(array_of(response.images), tiny_translation(pixels))


async def test_rows_of_different_callers_share_a_batch(server: Server, stub: Any) -> None:
    batcher, batches = server.core.catalog["tiny-a2b"].batcher, []
    engine_run = batcher.groups.instances[0].run

    def run(inputs: NDArray[Any], outputs: frozenset[str]) -> Any:
        batches.append(len(inputs))
        return engine_run(inputs, outputs)

    batcher.rebuild(InstanceGroups.of(run, 64))
    sent = [noise(2, *SIZE, 3, seed=seed) for seed in range(4)]
    with batcher.held():
        calls = [asyncio.ensure_future(stub.Translate(raw(pixels))) for pixels in sent]
        await until(lambda: batcher.queued_rows == 8)
    for pixels, response in zip(sent, await asyncio.gather(*calls), strict=True):
        np.testing.assert_array_equal(array_of(response.images), tiny_translation(pixels))
    assert batches == [8]


async def test_a_large_request_is_answered_in_order(start_server: Start, connect: Connect) -> None:
    stub = stub_of(connect(await start_server(max_batch_size=16)))
    pixels = noise(500, *SIZE, 3)
    np.testing.assert_array_equal(array_of((await stub.Translate(raw(pixels))).images), tiny_translation(pixels))


@pytest.mark.parametrize("way_in", ["pixels", "PNG"])
async def test_images_of_another_size_are_fitted_if_resize_is_set(stub: Any, way_in: str) -> None:
    sent = noise(2, 9, 11, 3)
    images = {"pixels": raw(sent), "PNG": files(*map(encoded, sent), format=pb.IMAGE_FORMAT_PIXELS)}[way_in]
    code, details = await refusal(stub, images)
    assert code is INVALID
    assert details.endswith("or set resize")
    images.resize = True
    fitted = np.stack([np.asarray(fit_picture(Image.fromarray(image), 6, 4)) for image in sent])
    np.testing.assert_array_equal(array_of((await stub.Translate(images)).images), tiny_translation(fitted))


BAD_REQUESTS: list[tuple[pb.TranslateRequest, grpc.StatusCode, str]] = [
    (
        files(GOOD, model="other"),
        grpc.StatusCode.NOT_FOUND,
        "no model 'other' is served: use one of gray-a2b, tiny",
    ),
    (files(GOOD, version=9), grpc.StatusCode.NOT_FOUND, "version 9 of 'tiny-a2b' is not served"),
    (pb.TranslateRequest(model="tiny-a2b"), INVALID, "neither pixels nor encoded is set"),
    (files(GOOD, model="tiny"), INVALID, "'tiny' takes latents, not images: call Generate"),
    (files(GOOD, format=9), INVALID, "format 9 is unknown: use one of PIXELS, FLOAT32, PNG, JPEG"),
    (files(), INVALID, "encoded.data: the number of files is 0"),
    (files(*[GOOD] * 1025), INVALID, "1025 rows are too many for one request: ask for at most 1024"),
    (files(GOOD, b"hello"), INVALID, "encoded.data[1] is neither a PNG nor a JPEG file"),
    (files(GOOD, GOOD[:-40]), INVALID, "encoded.data[1] cannot be read"),
    (files(GOOD, png_that_claims(50_000, 50_000), resize=True), INVALID, "encoded.data[1] cannot be read"),
    (files(GOOD, encoded(noise(6, 4, 3))), INVALID, "encoded.data[1] is 4x6 (width x height), and 'tiny-a2b'"),
    (raw(noise(2, *SIZE, 1)), INVALID, "pixels.shape is (2, 4, 6, 1): 'tiny-a2b' takes (rows, 4, 6, 3)"),
    (
        pb.TranslateRequest(model="tiny-a2b", pixels=pb.Tensor(shape=[1, 4, 6, 3], data=bytes(72))),
        INVALID,
        "pixels.dtype is 'UNSPECIFIED': send UINT8",
    ),
    (
        pb.TranslateRequest(
            model="tiny-a2b", pixels=pb.Tensor(dtype=pb.DATA_TYPE_UINT8, shape=[1] * 100_000, data=bytes(72))
        ),
        INVALID,
        "pixels.shape is (1, 1, 1, 1, ...)",
    ),
]


async def test_bad_requests_get_a_status_and_a_remedy(stub: Any) -> None:
    for request, code, message in BAD_REQUESTS:
        actual, details = await refusal(stub, request)
        assert (actual, message in details, "\n" in details) == (code, True, False), (message, details)


async def test_generate_on_a_translator_names_the_right_method(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.Generate(pb.GenerateRequest(model="tiny-a2b", seeded=pb.SeededLatents(seed=1, count=1)))
    assert error.value.code() is INVALID
    assert error.value.details() == "'tiny-a2b' takes images, not latents: call Translate"


async def test_a_request_of_too_many_bytes_is_refused(start_server: Start, connect: Connect) -> None:
    limits = {"max_request_bytes": 144, "max_request_rows": 4, "max_latent_bytes_per_row": 16}
    stub = stub_of(connect(await start_server(**limits)))
    assert (await stub.Translate(raw(noise(2, *SIZE, 3)))).images.shape[0] == 2
    code, details = await refusal(stub, raw(noise(3, *SIZE, 3)))
    assert (code, details) == (INVALID, "3 rows are too many for one request: ask for at most 2 at a time")
    code, details = await refusal(stub, files(GOOD + bytes(144)))
    assert code is INVALID
    assert "and a request holds 144: send fewer files at a time" in details
    code, _ = await refusal(stub, files(bytes(1 << 17)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED  # gRPC itself refuses it, unreceived


async def test_translators_are_listed_with_their_input_shape(start_server: Start, connect: Connect) -> None:
    server = await start_server(max_request_bytes=7200, max_request_rows=1000)
    models = (await stub_of(connect(server)).ListModels(pb.ListModelsRequest())).models
    assert [model.name for model in models] == ["gray-a2b", "tiny", "tiny-a2b"]
    assert models[2] == pb.Model(
        name="tiny-a2b",
        version=1,
        kind="cyclegan",
        architecture="tiny",
        dataset="noise",
        channels=3,
        height=4,
        width=6,
        device="cpu",
        backend="onnx",
        max_request_rows=100,
        max_request_bytes=7200,
        task=pb.TASK_TRANSLATE,
        input_image=pb.ImageShape(channels=3, height=4, width=6),
        is_default=True,
    )


async def test_metrics_count_translations_like_generations(server: Server, stub: Any) -> None:
    await stub.Translate(raw(noise(3, *SIZE, 3)))
    await refusal(stub, files(b"hello"))

    def value(name: str, **labels: str) -> float | None:
        return server.core.metrics.registry.get_sample_value(
            f"ganserve_{name}", {"model": "tiny-a2b", "version": "1", **labels}
        )

    assert value("requests_total", method="Translate", status="OK") == 1
    assert value("requests_total", method="Translate", status="INVALID_ARGUMENT") == 1
    assert value("request_duration_seconds_count", method="Translate") == 2
    assert value("rows_total") == 3


@pytest.fixture
def full_batcher(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(batcher: Batcher, *_: object) -> None:
        raise QueueFull("full")

    monkeypatch.setattr(Batcher, "_admit", refuse)


class Decoding:
    """Counts the decoded images, and blocks each until the test releases it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.started = 0
        self._loop = loop
        self._go = asyncio.Event()

    def __call__(self, admitted: AdmittedImages, row: int) -> NDArray[np.uint8]:
        self.started += 1
        asyncio.run_coroutine_threadsafe(self._go.wait(), self._loop).result(timeout=20)
        return np.zeros(admitted.input.row_shape, np.uint8)

    def release_all(self) -> None:
        self._go.set()


@pytest.fixture
async def decoding(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Decoding(asyncio.get_running_loop())
    monkeypatch.setattr(image_reader, "read_row", made)
    yield made
    made.release_all()


@pytest.mark.usefixtures("full_batcher")
async def test_nothing_is_decoded_for_a_queue_that_is_full(stub: Any, decoding: Decoding) -> None:
    assert (await refusal(stub, files(GOOD)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert decoding.started == 0


async def test_rows_being_read_reserve_room_in_the_queue(start_server: Any, connect: Any, decoding: Decoding) -> None:
    server = await start_server(max_queue_rows=3)
    stub = stub_of(connect(server))
    accepted = asyncio.ensure_future(stub.Translate(files(GOOD, GOOD)))
    await until(lambda: decoding.started == 1)
    code, details = await refusal(stub, files(GOOD, GOOD))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the queue of 'tiny-a2b' is full (2 of 3 rows wait, 2 more do not fit)" in details
    decoding.release_all()
    assert len((await accepted).encoded.data) == 2
    assert len((await stub.Translate(files(GOOD, GOOD, GOOD))).encoded.data) == 3


async def test_a_deadline_that_passes_ends_the_decoding(server: Server, stub: Any, decoding: Decoding) -> None:
    code, _ = await refusal(stub, files(GOOD, GOOD, GOOD), timeout=0.05)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await server.drain()  # the server sees it a moment after the client
    decoding.release_all()
    assert decoding.started <= 1
    assert server.core.catalog["tiny-a2b"].batcher.queued_rows == 0


async def test_a_call_that_is_cancelled_ends_the_decoding(server: Server, stub: Any, decoding: Decoding) -> None:
    call = stub.Translate(files(GOOD, GOOD, GOOD))
    await until(lambda: decoding.started == 1)
    call.cancel()
    assert await server.drain()  # it has ended, although its image is still being decoded
    decoding.release_all()
    assert decoding.started == 1


async def test_a_drain_finishes_what_is_being_decoded(server: Server, stub: Any, decoding: Decoding) -> None:
    call = asyncio.ensure_future(stub.Translate(files(GOOD, GOOD)))
    await until(lambda: decoding.started == 1)
    draining = asyncio.create_task(server.drain())
    decoding.release_all()
    assert len((await call).encoded.data) == 2
    assert await draining


async def test_any_bytes_are_answered_or_invalid(stub: Any) -> None:
    good = [GOOD, encoded(noise(*SIZE, 3), "JPEG")]

    @st.composite
    def hostile(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from([*good, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b""])))
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(data)))
            data[start : start + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
        return bytes(data)

    requests: list[pb.TranslateRequest] = []

    @settings(max_examples=200, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(hostile(), min_size=1, max_size=3), st.booleans())
    def collect(data: list[bytes], resize: bool) -> None:
        requests.append(files(*data, resize=resize))

    collect()
    results: list[Any] = await asyncio.gather(*map(stub.Translate, requests), return_exceptions=True)
    for request, result in zip(requests, results, strict=True):
        if isinstance(result, grpc.aio.AioRpcError):
            assert result.code() is INVALID, (request, result.details())
        else:
            assert len(result.encoded.data) == len(request.encoded.data)
