from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganserve.bundle import CARD_FILE, ONNX_FILE, TORCHSCRIPT_FILE
from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from ganserve.v1.generator_pb2_grpc import GeneratorStub
from server.app import Server
from server.generator import service as generator
from tests.server.scheduling.held_run import HeldRun, until
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator, tiny_images, tiny_pixels

Start = Callable[..., Awaitable[Server]]
UNKNOWN_DTYPE: Any = 9
Connect = Callable[[Server], grpc.aio.Channel]


def stub_of(channel: grpc.aio.Channel) -> Any:
    make_stub: Any = GeneratorStub
    return make_stub(channel)


def sent(latents: NDArray[np.float32], **more: Any) -> pb.GenerateRequest:
    tensor = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=latents.shape, data=latents.tobytes())
    return pb.GenerateRequest(**{"model": "tiny", "latents": tensor, **more})


def seeded(count: int, seed: int = 7, **more: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"model": "tiny", "seeded": pb.SeededLatents(seed=seed, count=count), **more})


def array_of(tensor: pb.Tensor) -> NDArray[Any]:
    dtype = {pb.DATA_TYPE_FLOAT32: "<f4", pb.DATA_TYPE_UINT8: "u1"}[tensor.dtype]
    return np.frombuffer(tensor.data, dtype).reshape(tuple(tensor.shape))


def assert_same_pixels(actual: NDArray[Any], latents: NDArray[np.float32]) -> None:
    """Compares pixels up to one level, because a value may be halfway between two levels."""
    assert actual.dtype == np.uint8
    np.testing.assert_allclose(actual.astype(int), tiny_pixels(latents).astype(int), atol=1)


async def refusal(stub: Any, request: pb.GenerateRequest, **more: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.Generate(request, **more)
    return error.value.code(), error.value.details() or ""


async def test_pixels_are_the_default_format(stub: Any) -> None:
    latents = latents_from_seed(1, 3, 4)
    response = await stub.Generate(sent(latents))
    assert (response.model, response.version) == ("tiny", 1)
    assert_same_pixels(array_of(response.images), latents)
    assert await stub.Generate(sent(latents, format=pb.IMAGE_FORMAT_PIXELS)) == response


async def test_float32_images_are_in_the_range_of_the_generator(stub: Any) -> None:
    latents = latents_from_seed(1, 3, 4)
    images = array_of((await stub.Generate(sent(latents, format=pb.IMAGE_FORMAT_FLOAT32))).images)
    np.testing.assert_allclose(images, tiny_images(latents), atol=1e-5)


async def test_png_returns_one_file_per_row(stub: Any) -> None:
    latents = latents_from_seed(1, 3, 4)
    files = (await stub.Generate(sent(latents, format=pb.IMAGE_FORMAT_PNG))).encoded.data
    assert all(Image.open(io.BytesIO(file)).format == "PNG" for file in files)
    assert_same_pixels(np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files]), latents)


async def test_jpeg_returns_one_file_per_row_with_a_small_loss(
    repository: Path, start_server: Start, connect: Connect
) -> None:
    publish_tiny_bundle(repository, "flat", latent_dim=1, shape=(3, 1, 1))
    latents = latents_from_seed(1, 3, 1)
    request = sent(latents, model="flat", format=pb.IMAGE_FORMAT_JPEG)
    files = (await stub_of(connect(await start_server())).Generate(request)).encoded.data
    images = [Image.open(io.BytesIO(file)) for file in files]
    assert all(image.format == "JPEG" for image in images)
    expected = tiny_pixels(latents, shape=(3, 1, 1)).astype(int)
    np.testing.assert_allclose(np.stack([np.asarray(image) for image in images]).astype(int), expected, atol=6)


async def test_seeded_latents_equal_those_that_a_client_draws(stub: Any) -> None:
    drawn = await stub.Generate(seeded(5, seed=2**64 - 1))
    given = await stub.Generate(sent(latents_from_seed(2**64 - 1, 5, 4)))
    assert drawn == given


async def test_a_large_request_is_answered_in_order(start_server: Start, connect: Connect) -> None:
    server = await start_server(max_batch_size=16)
    latents = latents_from_seed(3, 1000, 4)
    response = await stub_of(connect(server)).Generate(sent(latents, format=pb.IMAGE_FORMAT_FLOAT32))
    np.testing.assert_allclose(array_of(response.images), tiny_images(latents), atol=1e-5)


async def test_concurrent_clients_get_their_own_images(stub: Any) -> None:
    requests = [(seed, 1 + seed % 7) for seed in range(40)]
    responses = await asyncio.gather(*(stub.Generate(seeded(count, seed)) for seed, count in requests))
    for (seed, count), response in zip(requests, responses, strict=True):
        assert_same_pixels(array_of(response.images), latents_from_seed(seed, count, 4))


async def test_the_newest_version_is_found_by_its_number_and_by_zero(
    repository: Path, start_server: Start, connect: Connect
) -> None:
    publish_tiny_bundle(repository, version=2, seed=1)
    stub = stub_of(connect(await start_server()))
    for version in (0, 2):
        response = await stub.Generate(seeded(2, version=version))
        assert response.version == 2
    code, details = await refusal(stub, seeded(2, version=1))
    assert code is grpc.StatusCode.NOT_FOUND
    assert details == "version 1 of 'tiny' is not served: use version 2, or 0 for the newest one"


async def test_png_files_have_as_many_channels_as_the_images(
    repository: Path, start_server: Start, connect: Connect
) -> None:
    modes = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
    for mode, channels in modes.items():
        publish_tiny_bundle(repository, mode, shape=(channels, 5, 3))
    stub = stub_of(connect(await start_server()))
    for mode in modes:
        response = await stub.Generate(seeded(1, model=mode, format=pb.IMAGE_FORMAT_PNG))
        image = Image.open(io.BytesIO(response.encoded.data[0]))
        assert (image.mode, image.size) == (mode, (3, 5))


async def test_list_models_describes_each_model(repository: Path, start_server: Start, connect: Connect) -> None:
    publish_tiny_bundle(repository, "a-model", latent_dim=9, shape=(1, 2, 3))
    server = await start_server(max_request_rows=100)
    models = (await stub_of(connect(server)).ListModels(pb.ListModelsRequest())).models
    assert [model.name for model in models] == ["a-model", "tiny"]
    assert models[0] == pb.Model(
        name="a-model",
        version=1,
        kind="dcgan",
        architecture="tiny",
        dataset="noise",
        latent_dim=9,
        latent_distribution="normal",
        channels=1,
        height=2,
        width=3,
        device="cpu",
        backend="onnx",
        max_request_rows=100,
        max_request_bytes=100 * 16_384,
        task=pb.TASK_GENERATE,
        is_default=True,
    )


BAD_REQUESTS: list[tuple[pb.GenerateRequest, grpc.StatusCode, str]] = [
    (seeded(1, model="other"), grpc.StatusCode.NOT_FOUND, "no model 'other' is served: use one of tiny"),
    (seeded(1, version=9), grpc.StatusCode.NOT_FOUND, "version 9 of 'tiny' is not served"),
    (pb.GenerateRequest(model="tiny"), grpc.StatusCode.INVALID_ARGUMENT, "neither latents nor seeded is set"),
    (seeded(0), grpc.StatusCode.INVALID_ARGUMENT, "seeded.count is 0"),
    (seeded(2**32 - 1), grpc.StatusCode.INVALID_ARGUMENT, "ask for at most 1024 at a time"),
    (seeded(1, format=9), grpc.StatusCode.INVALID_ARGUMENT, "format 9 is unknown"),
    (sent(np.zeros((2, 5), np.float32)), grpc.StatusCode.INVALID_ARGUMENT, "latents.shape is (2, 5)"),
    (sent(np.full((2, 4), np.nan, np.float32)), grpc.StatusCode.INVALID_ARGUMENT, "latents[0, 0] is nan"),
    (
        pb.GenerateRequest(model="tiny", latents=pb.Tensor(dtype=UNKNOWN_DTYPE, shape=[1, 4], data=bytes(16))),
        grpc.StatusCode.INVALID_ARGUMENT,
        "latents.dtype is '9': send FLOAT32",
    ),
    (
        pb.GenerateRequest(model="tiny", latents=pb.Tensor(shape=[1, 4], data=bytes(16))),
        grpc.StatusCode.INVALID_ARGUMENT,
        "latents.dtype is 'UNSPECIFIED'",
    ),
    (
        pb.GenerateRequest(model="tiny", latents=pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[1] * 100_000)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "latents.shape is (1, 1, 1, 1, ...)",
    ),
]


async def test_bad_requests_get_a_status_and_a_remedy(stub: Any) -> None:
    for request, code, message in BAD_REQUESTS:
        actual, details = await refusal(stub, request)
        assert (actual, message in details) == (code, True), (message, details)


async def test_a_response_above_the_limit_is_refused_before_it_is_computed(
    start_server: Start, connect: Connect
) -> None:
    stub = stub_of(connect(await start_server(max_response_bytes=10 * 72)))
    assert (await stub.Generate(seeded(10))).images.shape[0] == 10
    code, details = await refusal(stub, seeded(11))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "ask for at most 10 rows at a time" in details


async def test_a_full_queue_is_resource_exhausted(
    start_server: Start, connect: Connect, hold: Callable[[Server], HeldRun]
) -> None:
    server = await start_server(max_queue_rows=3)
    held, stub = hold(server), stub_of(connect(server))
    running = stub.Generate(sent(np.zeros((1, 4), np.float32)))
    await held.started()
    waiting = stub.Generate(sent(np.zeros((3, 4), np.float32)))
    await wait_for_queue(server, 3)
    code, details = await refusal(stub, seeded(1))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "try again after a pause" in details
    held.release_all()
    await asyncio.gather(running, waiting)


async def test_a_deadline_that_passes_in_the_queue_is_deadline_exceeded_and_never_computed(
    server: Server, stub: Any, hold: Callable[[Server], HeldRun]
) -> None:
    held = hold(server)
    running = stub.Generate(sent(np.zeros((1, 4), np.float32)))
    await held.started()
    code, _ = await refusal(stub, seeded(2), timeout=0.05)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    await wait_for_queue(server, 0)
    held.release_all()
    await running
    assert len(held.computed) == 1


async def test_a_call_that_is_cancelled_leaves_the_queue(
    server: Server, stub: Any, hold: Callable[[Server], HeldRun]
) -> None:
    held = hold(server)
    running = stub.Generate(sent(np.zeros((1, 4), np.float32)))
    await held.started()
    gone = stub.Generate(seeded(2))
    await wait_for_queue(server, 2)
    gone.cancel()
    await wait_for_queue(server, 0)
    held.release_all()
    await running
    assert len(held.computed) == 1


async def test_an_engine_failure_is_internal_and_hides_its_cause(
    server: Server, stub: Any, hold: Callable[[Server], HeldRun]
) -> None:
    hold(server).release_all()
    code, details = await refusal(stub, sent(np.full((1, 4), -1, np.float32)))
    assert code is grpc.StatusCode.INTERNAL
    assert details == "the server failed to answer this request; its log says why"


async def test_an_unexpected_error_is_internal_and_hides_its_cause(
    server: Server, stub: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(generator, "admit_latents", fail)
    code, details = await refusal(stub, seeded(1))
    assert code is grpc.StatusCode.INTERNAL
    assert details == "the server failed to answer this request; its log says why"
    assert "secret detail" in caplog.text


async def test_a_request_larger_than_any_latents_is_refused_by_grpc(start_server: Start, connect: Connect) -> None:
    server = await start_server(max_request_rows=1, max_request_bytes=1000)
    request = sent(np.zeros((50_000, 4), np.float32))
    assert (await refusal(stub_of(connect(server)), request))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def wait_for_queue(server: Server, rows: int) -> None:
    await until(lambda: server.core.catalog["tiny"].batcher.queued_rows == rows)


async def describe(stub: Any, model: str = "tiny", version: int = 0) -> pb.DescribeModelResponse:
    answer: pb.DescribeModelResponse = await stub.DescribeModel(
        pb.DescribeModelRequest(model=model, version=version), timeout=20
    )
    return answer


async def test_the_card_is_the_published_one(repository: Path, stub: Any) -> None:
    answer = await describe(stub)
    assert json.loads(answer.card) == json.loads((repository / "tiny" / "1" / CARD_FILE).read_bytes())
    assert (answer.precision, answer.ready) == ("fp32", True)


async def test_the_sizes_are_those_of_the_files_that_the_card_lists(repository: Path, stub: Any) -> None:
    folder = repository / "tiny" / "1"
    answer = await describe(stub)
    assert dict(answer.file_bytes) == {
        name: (folder / name).stat().st_size for name in json.loads(answer.card)["files"]
    }
    assert ONNX_FILE in answer.file_bytes
    assert CARD_FILE not in answer.file_bytes


async def test_a_listed_file_that_is_missing_has_no_size_and_the_model_is_served(
    repository: Path, start_server: Start, connect: Connect
) -> None:
    path = repository / "tiny" / "1" / CARD_FILE
    card = json.loads(path.read_bytes())
    card["files"] |= {TORCHSCRIPT_FILE: "0" * 64, "../../../secret": "0" * 64}
    path.write_text(json.dumps(card))
    (repository.parent / "secret").write_text("of somebody else's")
    answer = await describe(stub_of(connect(await start_server())))
    assert TORCHSCRIPT_FILE in json.loads(answer.card)["files"]
    assert set(answer.file_bytes) == {ONNX_FILE}


async def test_describe_model_returns_the_entry_of_list_models(
    repository: Path, start_server: Start, connect: Connect
) -> None:
    publish_tiny_translator(repository)
    stub = stub_of(connect(await start_server(max_request_rows=10)))
    listed = (await stub.ListModels(pb.ListModelsRequest())).models
    assert len(listed) == 2
    for model in listed:
        assert (await describe(stub, model.name)).model == model


async def test_the_newest_version_is_described_by_its_number_and_by_zero(
    repository: Path, start_server: Start, connect: Connect
) -> None:
    publish_tiny_bundle(repository, version=2, seed=1)
    stub = stub_of(connect(await start_server()))
    for version in (0, 2):
        answer = await describe(stub, version=version)
        assert (answer.model.version, json.loads(answer.card)["version"]) == (2, 2)


async def test_a_model_that_is_not_served_is_not_found(stub: Any) -> None:
    for model, version, message in (
        ("other", 0, "no model 'other' is served: use one of tiny"),
        ("tiny", 9, "version 9 of 'tiny' is not served: use version 1, or 0 for the newest one"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await describe(stub, model, version)
        assert (error.value.code(), error.value.details()) == (grpc.StatusCode.NOT_FOUND, message)


async def test_a_request_too_large_for_names_is_refused_before_parsing(server: Server, connect: Connect) -> None:
    body = pb.DescribeModelRequest(model="x" * (1 << 20)).SerializeToString()  # to ListModels an unknown field
    for method in ("DescribeModel", "ListModels"):
        call: Any = connect(server).unary_unary(f"/ganserve.v1.Generator/{method}")
        refused = pytest.raises(grpc.aio.AioRpcError, match=rf"and a {method}Request may have 65536: send names only")
        with refused as error:
            await call(body, timeout=20)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_model_whose_engine_broke_is_described_as_not_ready(
    server: Server, stub: Any, hold: Callable[[Server], HeldRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(server)
    monkeypatch.setattr(server.core.catalog["tiny"].batcher, "broken", True)
    assert not (await describe(stub)).ready


async def test_requests_are_counted_and_logged_by_model(
    repository: Path, tmp_path: Path, start_server: Start, connect: Connect
) -> None:
    server = await start_server(access_log=str(tmp_path / "access.jsonl"))
    await describe(stub_of(connect(server)))
    await server.core.close_logs()
    [line] = [json.loads(text) for text in (tmp_path / "access.jsonl").read_text().splitlines()]
    assert (line["method"], line["model"], line["version"], line["status"]) == ("DescribeModel", "tiny", 1, "OK")
    [sample] = [
        sample
        for metric in server.core.metrics.collect()
        for sample in metric.samples
        if sample.name == "ganserve_requests_total" and sample.labels["method"] == "DescribeModel"
    ]
    assert (sample.labels["model"], sample.labels["status"], sample.value) == ("tiny", "OK", 1)
