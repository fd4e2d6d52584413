from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from server.app import Server
from server.config import ServerConfig
from server.errors import InvalidRequest, NotAllowed, NotServed
from server.models.lifecycle import IndexEntry
from server.open_inference.repository import RepositoryControl
from server.rpc.parsing import MessageParser
from tests.server.open_inference.inference_requests import arrived
from tests.server.tiny_bundles import publish_tiny_bundle

Start = Callable[..., Awaitable[Server]]
ENTRIES = [
    IndexEntry("a", 1, "UNAVAILABLE", "not loaded"),
    IndexEntry("a", 2, "READY", ""),
    IndexEntry("b", 1, "LOADING", ""),
]


class FakeModels:
    """Records what is loaded and unloaded."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []

    def index(self) -> list[IndexEntry]:
        return ENTRIES

    async def load(self, name: str) -> None:
        self.changes.append(("load", name))

    async def unload(self, name: str) -> None:
        if name == "other":
            raise NotServed("no model 'other' is served")
        self.changes.append(("unload", name))


@pytest.fixture
def models() -> FakeModels:
    return FakeModels()


def control_of(models: Any, **settings: Any) -> RepositoryControl:
    return RepositoryControl(models, MessageParser(), ServerConfig(**{"model_control": "explicit", **settings}))


@pytest.mark.parametrize(("ready", "listed"), [(False, ENTRIES), (True, ENTRIES[1:2])])
async def test_the_index_lists_all_versions_or_only_ready_ones(
    models: FakeModels, ready: bool, listed: list[IndexEntry]
) -> None:
    body = pb.RepositoryIndexRequest(ready=ready).SerializeToString()
    answer = pb.RepositoryIndexResponse.FromString(
        await control_of(models, model_control="none").index(body, arrived())
    )
    assert [(model.name, model.version, model.state, model.reason) for model in answer.models] == [
        (entry.name, str(entry.version), entry.state, entry.reason) for entry in listed
    ]


async def test_models_are_loaded_and_unloaded_by_name(models: FakeModels) -> None:
    control, noted = control_of(models), arrived()
    assert await control.load(pb.RepositoryModelLoadRequest(model_name="a").SerializeToString(), noted) == b""
    assert noted.model == "a"
    request = pb.RepositoryModelUnloadRequest(model_name="b")
    request.parameters["unload_dependents"].bool_param = False  # as Triton's clients do
    assert await control.unload(request.SerializeToString(), arrived()) == b""
    assert models.changes == [("load", "a"), ("unload", "b")]


async def test_errors_of_loading_and_unloading_reach_the_client(models: FakeModels) -> None:
    with pytest.raises(NotServed, match="no model 'other' is served"):
        await control_of(models).unload(
            pb.RepositoryModelUnloadRequest(model_name="other").SerializeToString(), arrived()
        )


@pytest.mark.parametrize("kind", ["load", "unload"])
async def test_without_the_flag_models_cannot_be_loaded_or_unloaded(models: FakeModels, kind: str) -> None:
    control = control_of(models, model_control="none")
    request = {"load": pb.RepositoryModelLoadRequest, "unload": pb.RepositoryModelUnloadRequest}[kind]
    with pytest.raises(NotAllowed, match="start the server with --model-control explicit"):
        await getattr(control, kind)(request(model_name="a").SerializeToString(), arrived())
    assert not models.changes


def changed(**more: Any) -> pb.RepositoryModelLoadRequest:
    return pb.RepositoryModelLoadRequest(**{"model_name": "a", **more})


def with_parameter(name: str, field: str, value: Any) -> pb.RepositoryModelLoadRequest:
    return changed(parameters={name: pb.ModelRepositoryParameter(**{field: value})})


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (changed(model_name=""), "model_name is empty: name the model"),
        (changed(repository_name="x"), "repository_name is 'x': there is one repository, so leave it empty"),
        (with_parameter("config", "string_param", "{}"), "parameter 'config' is not supported: models are served as"),
        (with_parameter("file:1/model.onnx", "bytes_param", b"x"), "parameter 'file:1/model.onnx' is not supported"),
        (with_parameter("unload_dependents", "bool_param", True), "parameter 'unload_dependents' is not supported"),
        (with_parameter("unload_dependents", "int64_param", 0), "parameter 'unload_dependents' is not supported"),
    ],
)
async def test_unsupported_requests_are_refused_in_one_line(models: FakeModels, request_: Any, message: str) -> None:
    for kind in ("load", "unload"):
        with pytest.raises(InvalidRequest, match=f"^{message}"):
            await getattr(control_of(models), kind)(request_.SerializeToString(), arrived())
    assert not models.changes


async def test_an_index_of_another_repository_is_refused(models: FakeModels) -> None:
    with pytest.raises(InvalidRequest, match="repository_name is 'x'"):
        await control_of(models).index(pb.RepositoryIndexRequest(repository_name="x").SerializeToString(), arrived())


async def test_tritons_client_loads_swaps_and_unloads_models(repository: Path, start_server: Start) -> None:
    server = await start_server(model_control="explicit")
    latents = triton.InferInput("latents", [1, 4], "FP32")
    latents.set_data_from_numpy(np.ones((1, 4), np.float32))
    async with triton_aio.InferenceServerClient(str(server.address)) as client:
        assert "model_repository" in (await client.get_server_metadata()).extensions
        publish_tiny_bundle(repository, version=2, seed=1)
        publish_tiny_bundle(repository, "second")
        await client.load_model("second")
        await client.load_model("tiny")
        assert (await client.infer("tiny", [latents])).get_response().model_version == "2"
        await client.unload_model("second")
        assert not await client.is_model_ready("second")
        listed = (await client.get_model_repository_index()).models
        assert {(model.name, model.version): model.state for model in listed} == {
            ("second", "1"): "UNAVAILABLE",
            ("tiny", "1"): "UNAVAILABLE",
            ("tiny", "2"): "READY",
        }
        for change, name in ((client.load_model, "../x"), (client.load_model, "none"), (client.unload_model, "none")):
            with pytest.raises(InferenceServerException) as error:
                await change(name)
            assert error.value.status() == "StatusCode.NOT_FOUND"


async def test_tritons_client_gets_an_error_that_names_the_flag(server: Server) -> None:
    async with triton_aio.InferenceServerClient(str(server.address)) as client:
        with pytest.raises(InferenceServerException, match="--model-control explicit") as error:
            await client.load_model("tiny")
    assert error.value.status() == "StatusCode.PERMISSION_DENIED"
