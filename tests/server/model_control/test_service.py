from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from ganserve.bundle import TRITON_CONFIG_FILE
from ganserve.v1 import generator_pb2
from ganserve.v1 import model_control_pb2 as pb
from ganserve.v1.generator_pb2_grpc import GeneratorStub
from ganserve.v1.model_control_pb2_grpc import ModelControlStub
from server.app import Server
from tests.server.tiny_bundles import publish_tiny_bundle

Connect = Callable[[Server], grpc.aio.Channel]
LABELS = 'version_policy { all {} } parameters { key: "version_label.stable" value { string_value: "1" } }'


@pytest.fixture(params=["explicit", "poll"])
async def control(request: pytest.FixtureRequest, start_server: Any, connect: Connect) -> Any:
    """The control plane of a server that lets clients use it."""
    make_stub: Any = ModelControlStub
    return make_stub(connect(await start_server(model_control=request.param)))


async def refusal(call: Any) -> tuple[str, str]:
    """The status and the message of a refused call."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code().name, error.value.details() or ""


def shown(versions: Any) -> list[tuple[int, str, bool, bool]]:
    return [
        (
            version.version,
            pb.VersionState.Name(version.state).removeprefix("VERSION_STATE_"),
            version.is_default,
            version.is_chosen,
        )
        for version in versions
    ]


async def test_versions_are_loaded_rolled_back_and_unloaded(control: Any, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2)
    loaded = await control.LoadModel(pb.LoadModelRequest(model="tiny"))
    assert shown(loaded.versions) == [(1, "UNAVAILABLE", False, False), (2, "READY", True, False)]
    back = await control.RollbackModel(pb.RollbackModelRequest(model="tiny"))
    assert shown(back.versions) == [(1, "READY", True, True), (2, "UNAVAILABLE", False, False)]
    newest = await control.LoadModel(pb.LoadModelRequest(model="tiny", newest=True))
    assert shown(newest.versions) == [(1, "UNAVAILABLE", False, False), (2, "READY", True, False)]
    chosen = await control.LoadModel(pb.LoadModelRequest(model="tiny", version=1))
    assert shown(chosen.versions) == [(1, "READY", True, True), (2, "UNAVAILABLE", False, False)]
    await control.UnloadModel(pb.UnloadModelRequest(model="tiny"))
    listed = await control.ListVersions(pb.ListVersionsRequest())
    assert [(version.model, version.reason) for version in listed.versions] == [("tiny", "unloaded")] * 2


async def test_labels_are_listed(control: Any, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2)
    (repository / "tiny" / TRITON_CONFIG_FILE).write_text(LABELS)
    loaded = await control.LoadModel(pb.LoadModelRequest(model="tiny"))
    assert [list(version.labels) for version in loaded.versions] == [["stable"], []]
    assert shown(loaded.versions) == [(1, "READY", False, False), (2, "READY", True, False)]


async def test_a_version_that_does_not_work_is_refused_with_its_reason(control: Any, repository: Path) -> None:
    (publish_tiny_bundle(repository, version=2) / "model.onnx").write_bytes(b"no graph")
    status, message = await refusal(control.LoadModel(pb.LoadModelRequest(model="tiny")))
    assert status == "FAILED_PRECONDITION"
    assert message.startswith("'tiny': version 2 was not loaded: tiny/2/model.onnx: its sha256 differs")
    assert message.endswith("; version 1 is served")
    (_, failed) = (await control.ListVersions(pb.ListVersionsRequest(model="tiny"))).versions
    assert failed.reason.startswith("tiny/2/model.onnx: its sha256 differs")


@pytest.mark.parametrize(
    ("method", "request_", "status", "message"),
    [
        ("LoadModel", pb.LoadModelRequest(), "INVALID_ARGUMENT", "model is empty: name the model"),
        ("LoadModel", pb.LoadModelRequest(model="tiny", version=0), "INVALID_ARGUMENT", "version is 0: name a version"),
        ("LoadModel", pb.LoadModelRequest(model="tiny", version=7), "NOT_FOUND", "version 7 of 'tiny' is not in the"),
        ("LoadModel", pb.LoadModelRequest(model="../tiny"), "NOT_FOUND", "no model '../tiny' is in the repository"),
        (
            "UnloadModel",
            pb.UnloadModelRequest(model="tiny", version=7),
            "NOT_FOUND",
            "version 7 of 'tiny' is not served",
        ),
        ("UnloadModel", pb.UnloadModelRequest(model="other"), "NOT_FOUND", "no model 'other' is served"),
        ("RollbackModel", pb.RollbackModelRequest(model="other"), "NOT_FOUND", "no model 'other' is served"),
        ("RollbackModel", pb.RollbackModelRequest(model="tiny"), "FAILED_PRECONDITION", "tiny:1 has no older version"),
        ("ListVersions", pb.ListVersionsRequest(model="../tiny"), "NOT_FOUND", "no model '../tiny' is in the"),
    ],
)
async def test_requests_that_cannot_be_followed_are_refused_in_one_line(
    control: Any, method: str, request_: Any, status: str, message: str
) -> None:
    code, details = await refusal(getattr(control, method)(request_))
    assert code == status
    assert details.startswith(message)
    assert "\n" not in details


@pytest.mark.parametrize("name", ["LoadModel", "UnloadModel", "RollbackModel"])
async def test_without_the_flag_versions_can_only_be_listed(server: Server, connect: Connect, name: str) -> None:
    make_stub: Any = ModelControlStub
    stub = make_stub(connect(server))
    kinds = {"LoadModel": pb.LoadModelRequest, "UnloadModel": pb.UnloadModelRequest}
    request = kinds.get(name, pb.RollbackModelRequest)(model="tiny")
    status, message = await refusal(getattr(stub, name)(request))
    assert status == "PERMISSION_DENIED"
    assert message.endswith("start the server with --model-control explicit")
    listed = await stub.ListVersions(pb.ListVersionsRequest(model="tiny"))
    assert shown(listed.versions) == [(1, "READY", True, False)]


async def test_the_generator_lists_and_serves_versions_by_number_and_label(
    start_server: Any, connect: Connect, repository: Path
) -> None:
    publish_tiny_bundle(repository, version=2, seed=2)
    (repository / "tiny" / TRITON_CONFIG_FILE).write_text(LABELS)
    make_stub: Any = GeneratorStub
    stub = make_stub(connect(await start_server()))
    listed = (await stub.ListModels(generator_pb2.ListModelsRequest())).models
    assert [(model.version, list(model.version_labels), model.is_default) for model in listed] == [
        (1, ["stable"], False),
        (2, [], True),
    ]
    seeded = generator_pb2.SeededLatents(seed=1, count=1)
    for wanted, version in (({}, 2), ({"version": 1}, 1), ({"version": 2}, 2), ({"version_label": "stable"}, 1)):
        answer = await stub.Generate(generator_pb2.GenerateRequest(model="tiny", seeded=seeded, **wanted))
        assert answer.version == version
        described = await stub.DescribeModel(generator_pb2.DescribeModelRequest(model="tiny", **wanted))
        assert (described.model.version, described.model.is_default) == (version, version == 2)
    both = generator_pb2.GenerateRequest(model="tiny", version=1, version_label="stable", seeded=seeded)
    assert await refusal(stub.Generate(both)) == (
        "INVALID_ARGUMENT",
        "version and version_label: set only one of them",
    )
