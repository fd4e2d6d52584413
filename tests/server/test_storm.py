"""Many concurrent clients, good and bad: each gets its own pixels or the right status, and the server keeps working."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from ganserve.v1 import generator_pb2 as pb
from server.app import Server
from server.scheduling.instances import GroupLimits
from tests.server.tiny_bundles import LATENT_DIM, publish_tiny_bundle, tiny_pixels

CALLERS = 32
REQUESTS = 4_000
MAX_ROWS = 9  # of a request
MAX_BATCH_ROWS = 16
TIMER_S = 0.005  # a timer of gRPC may expire this much too early
SEEDS = {"tiny": 0, "other": 3}  # of the weights of each model
Status = grpc.StatusCode
Start = Callable[..., Any]
Connect = Callable[[Server], grpc.aio.Channel]


def generate(model: str, latents: NDArray[np.float32]) -> pb.GenerateRequest:
    tensor = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=latents.shape, data=latents.tobytes())
    return pb.GenerateRequest(model=model, latents=tensor)


def infer(model: str, latents: NDArray[np.float32]) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[latents.tobytes()])
    request.inputs.add(name="latents", datatype="FP32", shape=latents.shape)
    request.outputs.add(name="pixels")
    return request


def no_model(request: Any) -> None:
    setattr(request, "model" if isinstance(request, pb.GenerateRequest) else "model_name", "nobody")


def short_data(request: Any) -> None:
    if isinstance(request, pb.GenerateRequest):
        request.latents.data = request.latents.data[:-1]
    else:
        request.raw_input_contents[0] = request.raw_input_contents[0][:-1]


def wrong_shape(request: Any) -> None:
    (request.latents if isinstance(request, pb.GenerateRequest) else request.inputs[0]).shape.append(1)


def not_finite(request: Any) -> None:
    nan = np.array([np.nan], "<f4").tobytes()
    if isinstance(request, pb.GenerateRequest):
        request.latents.data = nan + request.latents.data[4:]
    else:
        request.raw_input_contents[0] = nan + request.raw_input_contents[0][4:]


SPOILERS = [
    (no_model, Status.NOT_FOUND),
    (short_data, Status.INVALID_ARGUMENT),
    (wrong_shape, Status.INVALID_ARGUMENT),
    (not_finite, Status.INVALID_ARGUMENT),
]


class Storm:
    """The clients, and the outcomes of their requests."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.outcomes: Counter[str] = Counter()
        self._methods: dict[type, Any] = {
            pb.GenerateRequest: channel.unary_unary(
                "/ganserve.v1.Generator/Generate",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=lambda body: pb.GenerateResponse.FromString(body).images.data,
            ),
            service_pb2.ModelInferRequest: channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=lambda body: service_pb2.ModelInferResponse.FromString(body).raw_output_contents[
                    0
                ],
            ),
        }

    async def caller(self, number: int, requests: int) -> None:
        """Sends requests one after the other."""
        chance = random.Random(number)
        numbers = np.random.default_rng(number)
        for _ in range(requests):
            model = chance.choice(list(SEEDS))
            latents = numbers.standard_normal((chance.randint(1, MAX_ROWS), LATENT_DIM), dtype=np.float32)
            request = chance.choice([generate, infer])(model, latents)
            lot = chance.random()
            if lot < 0.2:
                await self._spoilt(request, *chance.choice(SPOILERS))
            elif lot < 0.3:
                await self._cancelled(request)
            else:
                hurry_s = 10 ** chance.uniform(-3.5, 0.5) if lot < 0.4 else None
                await self._good(request, tiny_pixels(latents, SEEDS[model]), hurry_s)

    async def _good(self, request: Any, pixels: NDArray[np.uint8], timeout_s: float | None) -> None:
        began = time.monotonic()
        status, data = await self._ask(request, timeout_s)
        if timeout_s is not None and status is Status.DEADLINE_EXCEEDED:
            assert time.monotonic() - began > timeout_s - TIMER_S
            self.outcomes["late"] += 1
        else:
            assert status is Status.OK
            answered = np.frombuffer(data, np.uint8).reshape(pixels.shape)
            assert np.abs(answered.astype(int) - pixels).max() <= 1  # a value between two levels may round either way
            self.outcomes["answered" if timeout_s is None else "in time"] += 1

    async def _spoilt(self, request: Any, spoil: Callable[[Any], None], status: grpc.StatusCode) -> None:
        spoil(request)
        assert await self._ask(request, None) == (status, b"")
        self.outcomes["refused"] += 1

    async def _ask(self, request: Any, timeout_s: float | None) -> tuple[grpc.StatusCode, bytes]:
        try:
            return Status.OK, await self._methods[type(request)](request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return error.code(), b""

    async def _cancelled(self, request: Any) -> None:
        call = self._methods[type(request)](request)
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([asyncio.ensure_future(call.code())])
        self.outcomes["cancelled"] += 1


async def test_concurrent_good_and_bad_requests_all_get_the_right_answers(
    start_server: Start, connect: Connect, repository: Path
) -> None:
    publish_tiny_bundle(repository, "other", seed=SEEDS["other"])
    server = await start_server(max_batch_size=MAX_BATCH_ROWS)
    # Engines this tiny compute everything on the event loop, so those of one model imitate a large model.
    server.core.catalog["other"].batcher.groups.limits = GroupLimits()
    channel = connect(server)
    storm = Storm(channel)
    await asyncio.gather(*(storm.caller(number, REQUESTS // CALLERS) for number in range(CALLERS)))
    assert storm.outcomes.total() == REQUESTS
    assert storm.outcomes["answered"] > REQUESTS * 0.5
    assert storm.outcomes["late"] > REQUESTS * 0.002
    assert storm.outcomes["in time"] > REQUESTS * 0.002
    assert storm.outcomes["refused"] > REQUESTS * 0.15
    health: Any = health_pb2_grpc.HealthStub(channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    statistics = server.core.catalog["other"].statistics
    done = statistics.snapshot()
    assert MAX_ROWS < max(statistics.batch_sizes()) <= MAX_BATCH_ROWS  # of several requests
    assert done.compute_infer.count > done.execution_count  # requests, and parts of them, in batches
    assert done.compute_infer.count > done.queue.count  # parts, and requests that were begun
    assert all(model.batcher.queued_rows == 0 for model in server.core.catalog.values())
    assert await server.drain()
