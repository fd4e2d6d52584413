"""Requests to a tiny model that come together are answered as one batch, and as if each had come alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from server.app import Server
from server.open_inference.infer import ModelInfer
from tests.server.open_inference.inference_requests import (
    FakeBatcher,
    arrived,
    infer_request,
    model_infer,
    parameter,
    requested,
)
from tests.server.tiny_bundles import tiny_images
from tests.server.tiny_cards import GENERATOR

INFER = "/inference.GRPCInferenceService/ModelInfer"
Random = Callable[[int], NDArray[np.float32]]


@pytest.fixture
def random_rows() -> Random:
    generator = np.random.default_rng(0)
    return lambda rows: generator.standard_normal((rows, 4), np.float32)


@pytest.fixture
def infer(server: Server) -> ModelInfer:
    """Answers from "tiny", which is computed at once up to 8 rows."""
    batcher = server.core.catalog["tiny"].batcher
    groups: Any = batcher.groups
    groups.limits = replace(groups.limits, inline_rows=8)
    return server.core._open_inference._model_infer


async def alone(infer: ModelInfer, bodies: list[bytes]) -> list[bytes]:
    return [await infer.infer(body, arrived()) for body in bodies]


def body_of(rows: NDArray[np.float32], **more: Any) -> bytes:
    body: bytes = infer_request(rows, **{"outputs": requested("images"), **more}).SerializeToString()
    return body


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("outputs", [(), ("images",), ("pixels",), ("pixels", "images")])
async def test_answers_are_those_of_requests_that_come_alone(
    infer: ModelInfer, random_rows: Random, rows: int, outputs: tuple[str, ...]
) -> None:
    bodies = [body_of(random_rows(rows), outputs=requested(*outputs)) for _ in range(20)]
    expected = await alone(infer, bodies)
    requests = [arrived() for _ in bodies]
    answers = infer.infer_together(bodies, requests)
    for answer, wanted in zip(answers, expected, strict=True):
        assert answer is not None
        got, right = pb.ModelInferResponse.FromString(answer), pb.ModelInferResponse.FromString(wanted)
        assert (got.model_name, got.model_version, got.outputs) == (
            right.model_name,
            right.model_version,
            right.outputs,
        )
        for mine, theirs, tensor in zip(got.raw_output_contents, right.raw_output_contents, right.outputs, strict=True):
            dtype = "<f4" if tensor.datatype == "FP32" else "u1"
            np.testing.assert_allclose(np.frombuffer(mine, dtype), np.frombuffer(theirs, dtype), rtol=1e-5, atol=1)
    for request in requests:
        assert (request.model, request.version, request.rows) == ("tiny", 1, rows)
        assert None not in (request.admission_s, request.compute_s, request.encode_s)


async def test_requests_of_several_kinds_keep_their_places(infer: ModelInfer, random_rows: Random) -> None:
    sent = [random_rows(rows) for rows in (1, 2, 1, 2, 1)]
    await alone(infer, [body_of(rows) for rows in sent])
    answers = infer.infer_together([body_of(rows) for rows in sent], [arrived() for _ in sent])
    for rows, answer in zip(sent, answers, strict=True):
        assert answer is not None
        raw = pb.ModelInferResponse.FromString(answer).raw_output_contents[0]
        np.testing.assert_allclose(np.frombuffer(raw, "<f4"), tiny_images(rows).ravel(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "special",
    [
        pytest.param(lambda: body_of(np.full((1, 4), np.nan, np.float32)), id="a value is not finite"),
        pytest.param(lambda: body_of(np.zeros((1, 4), np.float32), id="7"), id="has an id"),
        pytest.param(lambda: body_of(np.zeros((1, 4), np.float32), model_name="other"), id="another model"),
        pytest.param(lambda: b"\xff" * len(body_of(np.zeros((1, 4), np.float32))), id="no message"),
        pytest.param(
            lambda: body_of(np.zeros((1, 4), np.float32), parameters={"timeout": parameter(1)}), id="has a timeout"
        ),
        pytest.param(lambda: body_of(np.zeros((9, 4), np.float32)), id="too many rows"),
    ],
)
async def test_a_special_request_is_left_over(infer: ModelInfer, special: Callable[[], bytes]) -> None:
    plain = body_of(np.ones((1, 4), np.float32))
    await infer.infer(plain, arrived())
    if "timeout" in str(special()):
        await infer.infer(body_of(np.zeros((1, 4), np.float32), parameters={"timeout": parameter(10**7)}), arrived())
    answers = infer.infer_together([special()], [arrived()])
    assert answers == [None]
    others = infer.infer_together([body_of(np.full((2, 4), 3, np.float32)), plain], [arrived(), arrived()])
    assert others[0] is None
    assert others[1] is not None


async def test_a_request_that_is_late_is_left_over(infer: ModelInfer) -> None:
    body = body_of(np.ones((1, 4), np.float32))
    await infer.infer(body, arrived())
    now = asyncio.get_running_loop().time()
    late, early = infer.infer_together([body] * 2, [arrived(deadline=now), arrived(deadline=now + 60)])
    assert (late is None, early is None) == (True, False)


async def test_all_are_left_over_while_others_wait_and_while_the_model_is_broken(
    infer: ModelInfer, server: Server
) -> None:
    body, batcher = body_of(np.ones((1, 4), np.float32)), server.core.catalog["tiny"].batcher
    await infer.infer(body, arrived())
    with batcher.held():
        assert infer.infer_together([body] * 2, [arrived()] * 2) == [None] * 2
    with batcher.reserve(1):
        assert infer.infer_together([body] * 2, [arrived()] * 2) == [None] * 2
    batcher.broken = True
    assert infer.infer_together([body] * 2, [arrived()] * 2) == [None] * 2
    batcher.broken = False
    assert None not in infer.infer_together([body] * 2, [arrived()] * 2)


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (4, 1)])
async def test_the_batcher_of_a_larger_model_is_told_that_requests_follow(
    random_rows: Random, count: int, expected: int
) -> None:
    batcher = FakeBatcher(GENERATOR)
    infer, body = model_infer(GENERATOR, batcher), body_of(random_rows(1))
    await infer.infer(body, arrived())
    assert infer.infer_together([body] * count, [arrived() for _ in range(count)]) == [None] * count
    assert batcher.expected == expected


async def test_a_model_that_is_gone_is_left_over(infer: ModelInfer, server: Server) -> None:
    body = body_of(np.ones((1, 4), np.float32))
    await infer.infer(body, arrived())
    server.core.catalog.remove("tiny")
    assert infer.infer_together([body] * 2, [arrived()] * 2) == [None] * 2


async def test_through_the_server_each_request_is_counted_logged_and_answered_rightly(
    start_server: Any, connect: Callable[[Server], grpc.aio.Channel], random_rows: Random, tmp_path: Path
) -> None:
    server = await start_server(front="core", access_log=str(tmp_path / "log"))
    groups: Any = server.core.catalog["tiny"].batcher.groups
    groups.limits = replace(groups.limits, inline_rows=8)
    sent = [random_rows(1) for _ in range(300)]
    method: Any = connect(server).unary_unary(INFER)
    await method(body_of(sent[0]))
    answers = await asyncio.gather(*(method(body_of(rows), timeout=60) for rows in sent))
    for rows, answer in zip(sent, answers, strict=True):
        raw = pb.ModelInferResponse.FromString(answer).raw_output_contents[0]
        np.testing.assert_allclose(np.frombuffer(raw, "<f4"), tiny_images(rows).ravel(), rtol=1e-5, atol=1e-6)
    statistics = server.core.catalog["tiny"].statistics
    assert statistics.answered == {("ModelInfer", "OK"): 301}
    snapshot = statistics.snapshot()
    assert (snapshot.inference_count, snapshot.success.count, snapshot.queue.count) == (301, 301, 301)
    assert snapshot.execution_count < 301  # some were computed together
    await server.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(lines) == 301
    assert {(line["status"], line["rows"], line["model"]) for line in lines} == {("OK", 1, "tiny")}
    assert len({line["request_id"] for line in lines}) == 301
