from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2
from server.app import Server
from tests.server.open_inference.inference_requests import input_of, refusal
from tests.server.tiny_bundles import publish_tiny_translator, tiny_images, tiny_pixels, tiny_translation

Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Any]:
    """Triton's own asynchronous client of `server`."""
    async with triton_aio.InferenceServerClient(str(server.address)) as one:
        yield one


async def test_images_are_those_that_generate_answers(client: Any, server: Server, stub: Any) -> None:
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


async def test_large_requests_are_split_and_put_together_again(start_server: Start) -> None:
    server = await start_server(max_batch_size=16)
    latents = latents_from_seed(3, 1000, 4)
    options = [("grpc.max_receive_message_length", -1)]
    async with triton_aio.InferenceServerClient(str(server.address), channel_args=options) as client:
        result = await client.infer("tiny", [input_of(latents)])
    np.testing.assert_allclose(result.as_numpy("images"), tiny_images(latents), atol=1e-5)


async def test_callers_at_the_same_time_get_their_own_images(client: Any) -> None:
    sent = [latents_from_seed(seed, 1 + seed % 7, 4) for seed in range(40)]
    results = await asyncio.gather(*(client.infer("tiny", [input_of(latents)]) for latents in sent))
    for latents, result in zip(sent, results, strict=True):
        np.testing.assert_allclose(result.as_numpy("images"), tiny_images(latents), atol=1e-5)


async def test_priorities_and_timeouts_of_tritons_client_are_understood(client: Any) -> None:
    latents = latents_from_seed(1, 2, 4)
    result = await client.infer("tiny", [input_of(latents)], priority=1, timeout=60_000_000)
    difference = result.as_numpy("pixels").astype(int) - tiny_pixels(latents)
    assert np.abs(difference).max() <= 1


async def test_an_expired_timeout_is_a_passed_deadline(client: Any, server: Server, hold: Any) -> None:
    held = hold(server)
    first = asyncio.create_task(client.infer("tiny", [input_of(latents_from_seed(1, 1, 4))], client_timeout=20))
    await held.started()
    code, message = await refusal(client.infer("tiny", [input_of(latents_from_seed(2, 1, 4))], timeout=1000))
    assert code == "DEADLINE_EXCEEDED"
    assert message.startswith("the deadline")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_refusals_reach_the_caller_with_their_status(client: Any) -> None:
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
