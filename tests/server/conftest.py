"""Fixtures for the tests of the server: a tiny model repository, a config with free ports, a server and its stubs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from ganserve.v1.generator_pb2_grpc import GeneratorStub
from server.app import Server, start
from server.config import Address, FrontName, ServerConfig
from server.scheduling.batcher import Batcher
from server.scheduling.instances import InstanceGroups
from tests.server.scheduling.held_run import HeldRun
from tests.server.tiny_bundles import publish_tiny_bundle

StartServer = Callable[..., Any]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model repository with version 1 of "tiny"."""
    publish_tiny_bundle(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def front() -> FrontName:
    """The front of servers; files that override this fixture run on both."""
    name: Any = os.environ.get("GANSERVE_TEST_FRONT", "core")
    chosen: FrontName = name
    return chosen


@pytest.fixture
def config(repository: Path, front: FrontName) -> ServerConfig:
    """Serves `repository` on free ports of the loopback, on the CPU."""
    return ServerConfig(
        models=repository,
        address=Address("127.0.0.1", 0),
        metrics_address=Address("127.0.0.1", 0),
        device="cpu",
        front=front,
    )


@pytest.fixture
async def start_server(config: ServerConfig) -> AsyncIterator[StartServer]:
    """Starts servers with changes to `config`; closes them at the end."""
    servers: list[Server] = []

    async def start_one(**changes: Any) -> Server:
        servers.append(await start(replace(config, **changes)))
        return servers[-1]

    yield start_one
    for server in servers:
        await server.close()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[Server], grpc.aio.Channel]]:
    """Opens channels that accept answers of any size; closes them at the end."""
    channels: list[grpc.aio.Channel] = []

    def open_one(server: Server) -> grpc.aio.Channel:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        channels.append(grpc.aio.insecure_channel(str(server.address), options=options))
        return channels[-1]

    yield open_one
    for channel in channels:
        await channel.close()


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    """A server of `repository`."""
    started: Server = await start_server()
    return started


@pytest.fixture
def stub(server: Server, connect: Callable[[Server], grpc.aio.Channel]) -> Any:
    """The generator of `server`; typed Any, because the generated stub does not say that it is async."""
    make_stub: Any = GeneratorStub
    return make_stub(connect(server))


@pytest.fixture
async def hold() -> AsyncIterator[Callable[..., HeldRun]]:
    """Replaces the engine of a model, by default "tiny", by one that the test controls; releases it at the end."""
    replaced: list[tuple[HeldRun, Batcher]] = []

    def hold_one(server: Server, name: str = "tiny") -> HeldRun:
        held = HeldRun()
        config = server.config
        groups = InstanceGroups.of(held, config.max_batch_size)
        batcher = Batcher(groups, max_queue_rows=config.max_queue_rows, max_delay_s=0.0, name=name)
        replaced.append((held, server.core.catalog[name].batcher))
        server.core.catalog.add(replace(server.core.catalog[name], batcher=batcher))
        return held

    yield hold_one
    for held, original in replaced:
        held.release_all()
        await original.close()


@pytest.fixture
def held() -> HeldRun:
    """An engine that the test controls."""
    return HeldRun()


@pytest.fixture
async def batchers(held: HeldRun) -> AsyncIterator[Any]:
    """Makes batchers for `held`; closes them at the end."""
    made: list[Batcher] = []

    def make(*, max_batch_rows: int = 4, concurrency: int = 1, **settings: Any) -> Batcher:
        groups = InstanceGroups.of(held, max_batch_rows, concurrency)
        made.append(Batcher(groups, **{"max_queue_rows": 16, "max_delay_s": 0.0, "name": "tiny", **settings}))
        return made[-1]

    yield make
    held.release_all()
    for batcher in made:
        await batcher.close()
