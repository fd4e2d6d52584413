"""The steps of calls on models in this process."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from client.errors import InvalidRequest
from client.sdk.local_connection import LocalConnection, _rpc
from client.sdk.steps import ControlMethod, Method, Send, Wait
from ganserve.v1 import generator_pb2 as pb
from server.config import ServerConfig
from server.core import Core, by_path
from tests.client.sdk.test_core_thread import still_running
from tests.server.tiny_bundles import publish_tiny_bundle

METHODS = [method for part in get_args(Method) for method in (get_args(part) or (part,))]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    publish_tiny_bundle(models)
    return models


@pytest.fixture(scope="module")
def connection(models: Path) -> Iterator[LocalConnection]:
    with LocalConnection(models, device="cpu", cores=1) as opened:
        yield opened


async def test_every_method_of_the_client_has_its_path_on_the_server() -> None:
    assert set(get_args(ControlMethod)) < set(METHODS)
    core = Core(ServerConfig())
    assert {_rpc(method).path for method in METHODS} <= by_path(core.services(core.handler())).keys()
    await core.close()


def test_a_response_has_the_class_of_its_method(connection: LocalConnection) -> None:
    handle = connection._perform(Send("ListModels", pb.ListModelsRequest()))
    response = connection._perform(Wait(handle))
    assert isinstance(response, pb.ListModelsResponse)
    assert [model.name for model in response.models] == ["tiny"]


def test_a_cancelled_request_holds_nothing_up(connection: LocalConnection) -> None:
    request = pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(seed=7, count=3))
    handle = connection._perform(Send("Generate", request))
    handle.cancel()
    assert handle.answer.done()
    assert connection.call(connection.catalog.healthy(None))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("timeout_s", 0), ("timeout_s", 1e9), ("in_flight", 0), ("in_flight", 65), ("cores", 0), ("device", "tpu")],
)
def test_an_argument_out_of_range_is_named(models: Path, argument: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"^{argument}: must be"):
        LocalConnection(models, **{argument: value})


def test_garbage_collection_frees_the_models(models: Path) -> None:
    before = set(threading.enumerate())
    forgotten = LocalConnection(models, device="cpu", cores=1)
    assert set(threading.enumerate()) > before
    del forgotten
    gc.collect()
    assert not still_running(before)
