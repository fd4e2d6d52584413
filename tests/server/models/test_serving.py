"""Engines that break, and versions that are closed after their last request."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from ganserve.bundle import OUTPUT_PIXELS, version_folder
from ganserve.v1 import generator_pb2 as pb
from ganserve.v1.generator_pb2_grpc import GeneratorStub
from server.app import Server
from server.engines import loading as loading_module
from server.errors import Unavailable
from server.models import serving
from server.scheduling.batcher import Batcher
from server.scheduling.instances import Instance, InstanceGroups
from tests.server.open_inference.inference_requests import infer_request
from tests.server.scheduling.held_run import settle, until
from tests.server.tiny_bundles import publish_tiny_bundle, tiny_pixels

PIXELS = frozenset({OUTPUT_PIXELS})
LATENTS = np.random.default_rng(5).standard_normal((3, 4), dtype=np.float32)
Start = Callable[..., Any]


def fail(*_: Any) -> Any:
    raise RuntimeError("no device any more")


async def pixels_of(server: Server, name: str = "tiny") -> NDArray[Any]:
    return (await server.core.catalog[name].batcher.submit(LATENTS, PIXELS))[OUTPUT_PIXELS]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_REBUILD_PAUSES_S", (0.0, 0.01))


def break_engine(batcher: Batcher) -> None:
    batcher.rebuild(InstanceGroups([Instance("narrow", fail, max_rows=4, probe=fail)]))


async def test_the_engines_of_an_old_version_are_freed_after_its_last_request(server: Server, repository: Path) -> None:
    old = server.core.catalog["tiny"]
    engines = [weakref.ref(getattr(instance.run, "__self__")) for instance in old.batcher.groups.instances]  # noqa: B009 - of a method
    publish_tiny_bundle(repository, version=2)
    with old.in_use():
        await server.core.models.load("tiny")
        await settle()
        assert server.core.models.open_batchers == 2
    await until(lambda: server.core.models.open_batchers == 1)
    assert not any(engine() for engine in engines)  # although `old` is still referenced
    with pytest.raises(Unavailable):
        await old.batcher.submit(LATENTS, PIXELS)


@pytest.mark.parametrize("swapped", [True, False])
async def test_failed_requests_do_not_keep_a_version_open(
    server: Server, connect: Callable[[Server], grpc.aio.Channel], repository: Path, *, swapped: bool
) -> None:
    generator: Any = GeneratorStub
    inference: Any = GRPCInferenceServiceStub
    channel = connect(server)
    generate, infer = generator(channel).Generate, inference(channel).ModelInfer
    good, bad = infer_request(LATENTS), infer_request(np.full((3, 4), np.nan, np.float32))
    seeded = pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(seed=1, count=3))
    too_many = pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(seed=1, count=1 << 30))
    batcher = server.core.catalog["tiny"].batcher
    outcomes: list[Any] = [*await asyncio.gather(infer(bad), generate(too_many), return_exceptions=True)]
    with batcher.held():
        late = [infer(good, timeout=0.2), generate(seeded, timeout=0.2)]
        outcomes += await asyncio.gather(*late, return_exceptions=True)
        gone = infer(good)
        await until(lambda: batcher.queued_rows == 3)
        gone.cancel()
        await until(lambda: batcher.queued_rows == 0)
    instance = batcher.groups.instances[0]
    run, instance.run, instance.probe = instance.run, fail, None
    outcomes += await asyncio.gather(infer(good), generate(seeded), return_exceptions=True)
    instance.run = run
    assert all(isinstance(outcome, grpc.aio.AioRpcError) for outcome in outcomes)
    assert await infer(good)
    await until(lambda: server.core.catalog["tiny"].users == 0)
    if swapped:
        publish_tiny_bundle(repository, version=2)
        await server.core.models.load("tiny")
        await until(lambda: server.core.models.open_batchers == 1)
    else:
        await asyncio.wait_for(server.core.models.unload("tiny"), 20)
        assert server.core.models.open_batchers == 0


async def test_a_broken_engine_is_rebuilt_while_other_models_are_served(start_server: Start, tmp_path: Path) -> None:
    models = tmp_path / "models"
    publish_tiny_bundle(models, "other", seed=3)
    server = await start_server()
    folder = version_folder(models, "tiny", 1)
    folder.rename(tmp_path / "away")  # so that it cannot be rebuilt yet
    model = server.core.catalog["tiny"]
    break_engine(model.batcher)
    with pytest.raises(Unavailable, match="broke and is being rebuilt"):
        await pixels_of(server)
    assert not model.ready
    with pytest.raises(Unavailable, match="broke and is being rebuilt"):
        await pixels_of(server)
    np.testing.assert_array_equal(await pixels_of(server, "other"), tiny_pixels(LATENTS, seed=3))
    (tmp_path / "away").rename(folder)
    await until(lambda: model.ready)
    np.testing.assert_array_equal(await pixels_of(server), tiny_pixels(LATENTS))


async def test_rows_waiting_for_a_rebuild_are_computed_after_it(server: Server) -> None:
    batcher = server.core.catalog["tiny"].batcher
    break_engine(batcher)
    with batcher.held():
        tasks = [asyncio.create_task(batcher.submit(LATENTS, PIXELS)) for _ in range(3)]
        await until(lambda: batcher.queued_rows == 9)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    answered = [outcome for outcome in outcomes if isinstance(outcome, dict)]
    assert len(answered) == 1  # the other two shared the batch that broke the engine
    np.testing.assert_array_equal(answered[0][OUTPUT_PIXELS], tiny_pixels(LATENTS))


async def test_a_bundle_without_the_variant_is_served_in_fp32(start_server: Start, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        server = await start_server(precision="bf16")
        await until(lambda: "tiny:1 is served in fp32" in caplog.text)
    assert server.core.catalog["tiny"].precision == "fp32"
    np.testing.assert_array_equal(await pixels_of(server), tiny_pixels(LATENTS))


async def test_a_failed_rebuild_is_retried_after_any_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    load, failures = loading_module.load_engine, ["out of memory", "once more"]

    def load_at_last(*args: Any, **settings: Any) -> Any:
        if failures:
            raise RuntimeError(failures.pop())
        return load(*args, **settings)

    monkeypatch.setattr(loading_module, "load_engine", load_at_last)
    model = server.core.catalog["tiny"]
    break_engine(model.batcher)
    with pytest.raises(Unavailable):
        await pixels_of(server)
    await until(lambda: model.ready)
    np.testing.assert_array_equal(await pixels_of(server), tiny_pixels(LATENTS))


async def test_a_stopping_server_does_not_wait_for_an_engine_to_be_rebuilt(
    start_server: Start, connect: Callable[[Server], grpc.aio.Channel], repository: Path, tmp_path: Path
) -> None:
    server = await start_server()
    batcher = server.core.catalog["tiny"].batcher
    version_folder(repository, "tiny", 1).rename(tmp_path / "away")
    break_engine(batcher)
    stub: Any = GeneratorStub
    request = pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(seed=1, count=3))
    with batcher.held():
        calls = [asyncio.ensure_future(stub(connect(server)).Generate(request)) for _ in range(3)]
        await until(lambda: batcher.queued_rows == 9)
    await until(lambda: batcher.broken)
    assert await asyncio.wait_for(server.drain(), 20)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, grpc.aio.AioRpcError) for outcome in outcomes)
    await asyncio.wait_for(server.close(), 20)


async def test_a_reloaded_version_keeps_its_counters_and_a_new_one_starts_at_zero(
    server: Server, repository: Path
) -> None:
    first = server.core.catalog["tiny"].statistics
    await server.core.models.load("tiny")
    assert server.core.catalog["tiny"].statistics is first
    publish_tiny_bundle(repository, version=2)
    await server.core.models.load("tiny")
    assert server.core.catalog["tiny"].statistics is not first
