from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc

from ganserve.latents import latents_from_seed
from server.app import Server
from server.config import ServerConfig
from server.gate import Gate
from server.open_inference.service import SERVICE
from tests.server.open_inference.inference_requests import FakeBatcher, input_of, refusal, served
from tests.server.tiny_bundles import publish_tiny_bundle, tiny_images

Start = Callable[..., Awaitable[Server]]
Connect = Callable[[Server], grpc.aio.Channel]


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Any]:
    """Triton's own asynchronous client of `server`."""
    async with triton_aio.InferenceServerClient(str(server.address)) as one:
        yield one


async def test_a_serving_server_is_live_and_ready(client: Any) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("tiny")
    assert await client.is_model_ready("tiny", "1")


async def test_server_metadata_lists_the_extensions(client: Any) -> None:
    metadata = await client.get_server_metadata()
    assert metadata.name == "ganserve"
    assert metadata.version[0].isdecimal()
    assert list(metadata.extensions) == ["model_configuration", "schedule_policy", "statistics"]


async def test_models_that_are_not_served_are_not_ready(client: Any, server: Server) -> None:
    assert not await client.is_model_ready("other")
    assert not await client.is_model_ready("tiny", "2")
    card = server.core.catalog["tiny"].card
    broken = FakeBatcher(card)
    broken.broken = True
    server.core.catalog.add(served(card, broken))
    assert not await client.is_model_ready("tiny")
    assert await client.is_server_ready()


async def test_a_malformed_version_is_refused_by_every_method(client: Any) -> None:
    for ask in (client.is_model_ready, client.get_model_metadata, client.get_model_config):
        assert await refusal(ask("tiny", "1.0")) == (
            "INVALID_ARGUMENT",
            "model_version is '1.0': send a number or a label, or leave it empty for the default one",
        )


async def test_a_server_that_retires_is_not_ready_but_answers(server: Server, client: Any) -> None:
    await server.core.retire()
    assert await client.is_server_live()
    assert not await client.is_server_ready()
    assert not await client.is_model_ready("tiny")
    answer = await client.infer("tiny", [input_of(latents_from_seed(1, 1, 4))])
    assert answer.as_numpy("pixels").shape[0] == 1


async def test_only_metadata_is_available_while_the_gate_is_closed(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "open", lambda _: None)
    server = Server(config)
    try:
        server.reserve()
        await server.listen()
        async with triton_aio.InferenceServerClient(str(server.address)) as client:
            assert await client.is_server_live()
            assert not await client.is_server_ready()
            assert not await client.is_model_ready("tiny")
            assert (await client.get_server_metadata()).name == "ganserve"
            assert await refusal(client.get_model_metadata("tiny")) == (
                "UNAVAILABLE",
                "no model is served: wait until one is loaded, or load one",
            )
            infer = client.infer("tiny", [input_of(latents_from_seed(1, 1, 4))])
            assert await refusal(infer) == (
                "UNAVAILABLE",
                "the server is starting: wait until its health is SERVING, or try another replica",
            )
            for gated in (client.get_model_config("tiny"), client.get_model_repository_index()):
                assert "starting" in (await refusal(gated))[1]
    finally:
        await server.close()


async def test_statistics_count_answered_and_refused_requests(client: Any) -> None:
    for rows in (2, 2, 3):
        await client.infer("tiny", [input_of(latents_from_seed(1, rows, 4))])
    await refusal(client.infer("tiny", [input_of(latents_from_seed(1, 2, 5))]))
    (statistics,) = (await client.get_inference_statistics()).model_stats
    assert (statistics.name, statistics.version) == ("tiny", "1")
    assert (statistics.inference_count, statistics.execution_count) == (7, 3)
    assert statistics.last_inference > 1_600_000_000_000
    totals = statistics.inference_stats
    assert (totals.success.count, totals.fail.count) == (3, 1)
    assert totals.success.ns >= totals.compute_infer.ns > 0
    for phase in (totals.queue, totals.compute_input, totals.compute_infer, totals.compute_output):
        assert phase.count == 3
    assert [(batch.batch_size, batch.compute_infer.count) for batch in statistics.batch_stats] == [(2, 2), (3, 1)]
    assert (await client.get_inference_statistics("tiny", "1")).model_stats[0].name == "tiny"
    assert (await refusal(client.get_inference_statistics("other")))[0] == "NOT_FOUND"


async def test_tritons_blocking_client_works(server: Server) -> None:
    latents = latents_from_seed(5, 2, 4)

    def run() -> tuple[bool, Any, Any, str]:
        with triton.InferenceServerClient(str(server.address)) as client:
            ready = client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
            result = client.infer("tiny", [input_of(latents)], request_id="7")
            return ready, result, client.get_model_config("tiny", as_json=True), result.get_response().id

    ready, result, config, request_id = await asyncio.to_thread(run)
    assert ready
    assert request_id == "7"
    assert config["config"]["name"] == "tiny"
    np.testing.assert_allclose(result.as_numpy("images"), tiny_images(latents), atol=1e-5)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest()),
        ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest()),
        ("TraceSetting", pb.TraceSettingRequest()),
        ("LogSettings", pb.LogSettingsRequest()),
    ],
)
async def test_unsupported_methods_are_unimplemented(
    server: Server, connect: Connect, method: str, request_: Any
) -> None:
    make_stub: Any = pb_grpc.GRPCInferenceServiceStub
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await getattr(make_stub(connect(server)), method)(request_)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_malformed_messages_are_invalid_for_every_method(server: Server, connect: Connect) -> None:
    channel = connect(server)
    for method in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ModelInfer", "RepositoryIndex"):
        send: Any = channel.unary_unary(f"/{SERVICE}/{method}")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await send(b"\xff")
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert f"the request is not a {method}Request" in (error.value.details() or "")


async def test_versions_side_by_side_are_told_apart_by_every_method(start_server: Any, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2)
    label = 'parameters { key: "version_label.stable" value { string_value: "1" } }'
    (repository / "tiny" / "config.pbtxt").write_text("version_policy { all {} } " + label)
    server = await start_server()
    latents = triton.InferInput("latents", [1, 4], "FP32")
    latents.set_data_from_numpy(np.ones((1, 4), np.float32))
    async with triton_aio.InferenceServerClient(str(server.address)) as client:
        for wanted, answered in (("", "2"), ("1", "1"), ("2", "2"), ("stable", "1"), ("stable", "1")):
            answer = await client.infer("tiny", [latents], wanted)
            assert answer.get_response().model_version == answered
            assert await client.is_model_ready("tiny", wanted)
            assert list((await client.get_model_metadata("tiny", wanted)).versions) == ["1", "2"]
        assert not await client.is_model_ready("tiny", "3")
        assert not await client.is_model_ready("tiny", "canary")
        config = (await client.get_model_config("tiny")).config
        assert config.version_policy.WhichOneof("policy_choice") == "all"
        counts = {
            wanted: {
                one.version: one.inference_count
                for one in (await client.get_inference_statistics("tiny", wanted)).model_stats
            }
            for wanted in ("", "1", "stable")
        }
    assert counts == {"": {"1": 3, "2": 2}, "1": {"1": 3}, "stable": {"1": 3}}
