"""Generate requests to a tiny model that come together are answered as one batch, and as if each had come alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from ganserve.v1 import generator_pb2 as pb
from server.app import Server
from server.generator.service import GeneratorService
from server.request import InFlightRequest
from tests.server.tiny_bundles import tiny_images

GENERATE = "/ganserve.v1.Generator/Generate"
FORMATS = {"PIXELS": pb.IMAGE_FORMAT_PIXELS, "FLOAT32": pb.IMAGE_FORMAT_FLOAT32}
MOST_ROWS = 8


def arrived(**more: Any) -> InFlightRequest:
    return InFlightRequest("Generate", time.perf_counter(), **more)


def latents_of(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, 4), np.float32)


def body_of(latents: NDArray[np.float32], **more: Any) -> bytes:
    tensor = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=latents.shape, data=latents.tobytes())
    fields: dict[str, Any] = {"model": "tiny", "latents": tensor, **more}
    body: bytes = pb.GenerateRequest(**fields).SerializeToString()
    return body


def seeded(count: int, seed: int = 3) -> bytes:
    body: bytes = pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(seed=seed, count=count)).SerializeToString()
    return body


@pytest.fixture
def batcher(server: Server) -> Any:
    """That of "tiny", which is computed at once up to 8 rows."""
    batcher: Any = server.core.catalog["tiny"].batcher
    batcher.groups.limits = replace(batcher.groups.limits, inline_rows=MOST_ROWS)
    return batcher


@pytest.fixture
def generator(server: Server, batcher: Any) -> GeneratorService:
    return server.core._generator


async def alone(generator: GeneratorService, bodies: list[bytes]) -> list[bytes]:
    return [await generator.generate(body, arrived()) for body in bodies]


def images_of(answer: bytes) -> tuple[pb.GenerateResponse, NDArray[Any]]:
    response = pb.GenerateResponse.FromString(answer)
    dtype = "<f4" if response.images.dtype == pb.DATA_TYPE_FLOAT32 else "u1"
    return response, np.frombuffer(response.images.data, dtype)


@pytest.mark.parametrize("image_format", FORMATS)
async def test_answers_are_those_of_requests_that_come_alone(generator: GeneratorService, image_format: str) -> None:
    sizes = (1, 2, 3, 1, 8, 4, 5)
    bodies = [body_of(latents_of(rows, rows), format=FORMATS[image_format]) for rows in sizes] + [seeded(2)]
    requests = [arrived() for _ in bodies]
    answers = generator.generate_together(bodies, requests)
    for answer, wanted in zip(answers, await alone(generator, bodies), strict=True):
        assert answer is not None
        (got, mine), (right, theirs) = images_of(answer), images_of(wanted)
        assert (got.model, got.version, got.images.shape) == (right.model, right.version, right.images.shape)
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1)
    assert [request.rows for request in requests] == [*sizes, 2]
    for request in requests:
        assert (request.model, request.version) == ("tiny", 1)
        assert None not in (request.admission_s, request.compute_s, request.encode_s)


async def test_requests_are_computed_in_few_batches(generator: GeneratorService, server: Server) -> None:
    statistics = server.core.catalog["tiny"].statistics
    before = statistics.snapshot().execution_count
    generator.generate_together([body_of(latents_of(1))] * 16, [arrived() for _ in range(16)])
    assert statistics.snapshot().execution_count - before == 16 // MOST_ROWS


@pytest.mark.parametrize(
    "special",
    [
        pytest.param(lambda: body_of(np.full((1, 4), np.nan, np.float32)), id="a value is not finite"),
        pytest.param(lambda: body_of(latents_of(1), format=pb.IMAGE_FORMAT_PNG), id="wants files"),
        pytest.param(lambda: body_of(latents_of(1), model="other"), id="another model"),
        pytest.param(lambda: body_of(latents_of(1), version=7), id="another version"),
        pytest.param(lambda: body_of(latents_of(1), version=1, version_label="stable"), id="version and label"),
        pytest.param(lambda: body_of(latents_of(1)[:, :3]), id="wrong shape"),
        pytest.param(lambda: b"\xff" * 30, id="no message"),
        pytest.param(lambda: b"", id="nothing"),
        pytest.param(lambda: body_of(latents_of(MOST_ROWS + 1)), id="too many rows"),
        pytest.param(lambda: seeded(0), id="no rows"),
        pytest.param(lambda: seeded(1) + bytes((0xA2, 0x06, 0xA0, 0x9C, 1)) + bytes(20_000), id="large"),
    ],
)
async def test_a_special_request_is_left_over(generator: GeneratorService, special: Callable[[], bytes]) -> None:
    plain = body_of(latents_of(1))
    answers = generator.generate_together([plain, special(), plain], [arrived() for _ in range(3)])
    assert [answer is None for answer in answers] == [False, True, False]


async def test_a_request_that_is_late_is_left_over(generator: GeneratorService) -> None:
    now = asyncio.get_running_loop().time()
    requests = [arrived(deadline=now), arrived(deadline=now + 60)]
    late, early = generator.generate_together([body_of(latents_of(1))] * 2, requests)
    assert (late is None, early is None) == (True, False)


async def test_all_are_left_over_while_others_wait_and_while_the_model_is_broken(
    generator: GeneratorService, batcher: Any
) -> None:
    bodies = [body_of(latents_of(1))] * 2
    with batcher.held():
        assert generator.generate_together(bodies, [arrived(), arrived()]) == [None] * 2
    with batcher.reserve(1):
        assert generator.generate_together(bodies, [arrived(), arrived()]) == [None] * 2
    batcher.broken = True
    assert generator.generate_together(bodies, [arrived(), arrived()]) == [None] * 2
    batcher.broken = False
    assert None not in generator.generate_together(bodies, [arrived(), arrived()])


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (4, 1)])
async def test_the_batcher_of_a_larger_model_is_told_that_requests_follow(
    generator: GeneratorService, batcher: Any, monkeypatch: pytest.MonkeyPatch, count: int, expected: int
) -> None:
    batcher.groups.limits = replace(batcher.groups.limits, inline_rows=0)
    told: list[None] = []
    monkeypatch.setattr(batcher, "expect_more", lambda: told.append(None))
    answers = generator.generate_together([body_of(latents_of(1))] * count, [arrived() for _ in range(count)])
    assert answers == [None] * count
    assert len(told) == expected


@pytest.mark.usefixtures("batcher")
async def test_through_the_server_each_request_is_counted_and_answered_rightly(
    start_server: Any, connect: Callable[[Server], grpc.aio.Channel]
) -> None:
    server = await start_server(front="core")
    groups: Any = server.core.catalog["tiny"].batcher.groups
    groups.limits = replace(groups.limits, inline_rows=MOST_ROWS)
    sent = [latents_of(1, seed) for seed in range(200)]
    method: Any = connect(server).unary_unary(GENERATE)
    bodies = [body_of(latents, format=pb.IMAGE_FORMAT_FLOAT32) for latents in sent]
    answers = await asyncio.gather(*(method(body, timeout=60) for body in bodies))
    for latents, answer in zip(sent, answers, strict=True):
        np.testing.assert_allclose(images_of(answer)[1], tiny_images(latents).ravel(), rtol=1e-5, atol=1e-6)
    statistics = server.core.catalog["tiny"].statistics
    assert statistics.answered == {("Generate", "OK"): 200}
    snapshot = statistics.snapshot()
    assert (snapshot.inference_count, snapshot.success.count, snapshot.queue.count) == (200, 200, 200)
    assert snapshot.execution_count < 200  # some were computed together
