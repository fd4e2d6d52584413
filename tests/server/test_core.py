"""Tests for server.core: requests are answered without a transport, by the same rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from ganserve.v1 import generator_pb2 as pb
from server.config import ServerConfig
from server.core import Core
from server.errors import (
    DeadlinePassed,
    InvalidRequest,
    NotServed,
    QueueFull,
    StartupError,
    Unavailable,
)
from server.hosted_call import HostedCall

GENERATE = "/ganserve.v1.Generator/Generate"
CHECK = "/grpc.health.v1.Health/Check"
StartCore = Callable[..., Any]


@pytest.fixture
async def start_core(config: ServerConfig) -> AsyncIterator[StartCore]:
    """Starts cores with changes to `config`; closes them at the end."""
    cores: list[Core] = []

    async def start_one(**changes: Any) -> Core:
        cores.append(Core(replace(config, **changes)))
        await cores[-1].start()
        return cores[-1]

    yield start_one
    for core in cores:
        await core.close()


def seeded(rows: int = 2, model: str = "tiny") -> bytes:
    return pb.GenerateRequest(model=model, seeded=pb.SeededLatents(seed=7, count=rows)).SerializeToString()


async def ask(core: Core, body: bytes, path: str = GENERATE, call: HostedCall | None = None) -> bytes:
    call = call or HostedCall()
    try:
        return await core.answer(path, body, call)
    finally:
        call.end()


async def test_a_message_in_gives_a_message_out(start_core: StartCore) -> None:
    response = pb.GenerateResponse.FromString(await ask(await start_core(), seeded(rows=3)))
    assert response.version == 1
    assert len(response.images.data) == np.prod(response.images.shape)
    assert response.images.shape[0] == 3


@pytest.mark.parametrize(
    ("body", "path", "error", "text"),
    [
        (seeded(model="other"), GENERATE, NotServed, "other"),
        (b"\xff\xff", GENERATE, InvalidRequest, "GenerateRequest"),
        (seeded(), "/ganserve.v1.Generator/Nothing", LookupError, "no unary method"),
        (b"", "/inference.GRPCInferenceService/ModelStreamInfer", LookupError, "no unary method"),
    ],
    ids=["model", "message", "method", "stream"],
)
async def test_a_bad_request_is_refused_with_its_status(
    start_core: StartCore, body: bytes, path: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await ask(await start_core(), body, path)


async def test_a_deadline_that_has_passed_is_refused(start_core: StartCore) -> None:
    with pytest.raises(DeadlinePassed):
        await ask(await start_core(), seeded(), call=HostedCall(timeout_s=0))


async def test_before_the_start_requests_are_refused(config: ServerConfig) -> None:
    core = Core(config)
    with pytest.raises(Unavailable, match="starting"):
        await ask(core, seeded())
    await core.close()


async def test_an_answer_counts_until_its_call_ends(start_core: StartCore) -> None:
    core, call = await start_core(), HostedCall()
    answer = await core.answer(GENERATE, seeded(), call)
    assert core.metrics.registry.get_sample_value("ganserve_unsent_bytes") == len(answer)
    assert core.gate.inside == 1
    call.end()
    assert core.metrics.registry.get_sample_value("ganserve_unsent_bytes") == 0
    assert core.gate.inside == 0


async def test_answers_that_nobody_takes_fill_the_budget(start_core: StartCore) -> None:
    core = await start_core()
    kept = HostedCall()
    answer = await core.answer(GENERATE, seeded(), kept)
    [handler] = core._handlers
    handler._max_unsent_bytes = len(answer) + 1
    with pytest.raises(QueueFull, match="answers wait to be read"):
        await ask(core, seeded())
    kept.end()
    assert await ask(core, seeded()) == answer


async def test_the_health_follows_the_life_of_the_core(start_core: StartCore) -> None:
    core, request = await start_core(), health_pb2.HealthCheckRequest().SerializeToString()
    assert health_pb2.HealthCheckResponse.FromString(await ask(core, request, CHECK)).status == 1
    await core.drain()
    assert health_pb2.HealthCheckResponse.FromString(await ask(core, request, CHECK)).status == 2


async def test_a_drain_waits_for_the_answers_that_are_not_sent(start_core: StartCore) -> None:
    core, call = await start_core(), HostedCall()
    await core.answer(GENERATE, seeded(), call)
    draining = asyncio.create_task(core.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    call.end()
    assert await draining


async def test_a_drain_gives_up_at_its_timeout(start_core: StartCore) -> None:
    core, call = await start_core(drain_timeout_s=0.01), HostedCall()
    await core.answer(GENERATE, seeded(), call)
    assert not await core.drain()
    call.end()


async def test_requests_are_counted_and_logged_with_their_caller(start_core: StartCore, tmp_path: Path) -> None:
    core = await start_core(access_log=str(tmp_path / "access.log"))
    await ask(core, seeded(), call=HostedCall(metadata=(("x-request-id", "mine"),), peer="notebook"))
    await core.close_logs()
    [line] = (tmp_path / "access.log").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["peer"], entry["request_id"], entry["status"]) == ("notebook", "mine", grpc.StatusCode.OK.name)
    sample = core.metrics.registry.get_sample_value
    labels = {"model": "tiny", "version": "1", "method": "Generate", "status": "OK"}
    assert sample("ganserve_requests_total", labels) == 1


async def test_without_a_model_it_does_not_start(config: ServerConfig, tmp_path: Path) -> None:
    core = Core(replace(config, models=tmp_path / "nothing"))
    with pytest.raises(StartupError, match="--models"):
        await core.start()
    await core.close()
