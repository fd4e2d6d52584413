from __future__ import annotations

from typing import Any

import grpc
import pytest

from client import (
    AccessDenied,
    AsyncGanClient,
    GanClient,
    GanClientError,
    InvalidRequest,
    ServerFault,
    UnknownModel,
    VersionInfo,
    VersionNotLoaded,
)
from ganserve.v1 import model_control_pb2 as pb
from tests.client.fake_control import FakeControl, version

Code = grpc.StatusCode
LISTED = [
    VersionInfo("dcgan", 2, "unavailable", "not loaded", (), is_default=False, is_chosen=False),
    VersionInfo("dcgan", 3, "ready", "", (), is_default=True, is_chosen=False),
]


@pytest.mark.parametrize(
    ("call", "request_", "result"),
    [
        (lambda client: client.versions(), pb.ListVersionsRequest(), LISTED),
        (lambda client: client.versions("dcgan"), pb.ListVersionsRequest(model="dcgan"), LISTED),
        (lambda client: client.load("dcgan"), pb.LoadModelRequest(model="dcgan"), LISTED),
        (lambda client: client.load("dcgan", 2), pb.LoadModelRequest(model="dcgan", version=2), LISTED),
        (lambda client: client.load("dcgan", newest=True), pb.LoadModelRequest(model="dcgan", newest=True), LISTED),
        (lambda client: client.unload("dcgan"), pb.UnloadModelRequest(model="dcgan"), None),
        (lambda client: client.unload("dcgan", 3), pb.UnloadModelRequest(model="dcgan", version=3), None),
        (lambda client: client.rollback("dcgan"), pb.RollbackModelRequest(model="dcgan"), LISTED),
    ],
)
async def test_both_clients_send_the_request_and_return_the_versions(
    control: FakeControl, call: Any, request_: Any, result: Any
) -> None:
    with GanClient(control.address) as client:
        assert call(client) == result
    async with AsyncGanClient(control.address) as client:
        assert await call(client) == result
    assert control.requests == [request_, request_]


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (Code.FAILED_PRECONDITION, VersionNotLoaded, "^because$"),
        (Code.NOT_FOUND, UnknownModel, "^because$"),
        (
            Code.PERMISSION_DENIED,
            AccessDenied,
            r"\(because\); give a valid token \(--token-file, token=\)$",
        ),
    ],
)
def test_refusals_have_their_own_errors(
    control: FakeControl, status: grpc.StatusCode, kind: type[GanClientError], message: str
) -> None:
    control.failures.append((status, "because"))
    with GanClient(control.address) as client, pytest.raises(kind, match=message):
        client.load("dcgan")


@pytest.mark.parametrize("flag", ["--model-control", "--admin-address", "--admin-token-file"])
def test_a_flag_of_the_server_is_not_blamed_on_the_token(control: FakeControl, flag: str) -> None:
    control.failures.append((Code.PERMISSION_DENIED, f"because of {flag}"))
    with (
        GanClient(control.address) as client,
        pytest.raises(AccessDenied, match=rf"\(because of {flag}\)$"),
    ):
        client.load("dcgan")


@pytest.mark.parametrize("number", [0, -1, 2**63, "stable"])
def test_versions_are_checked_before_they_are_sent(control: FakeControl, number: Any) -> None:
    with GanClient(control.address) as client:
        for call in (client.load, client.unload):
            with pytest.raises(InvalidRequest, match="version: must be a whole number"):
                call("dcgan", number)
    assert not control.requests


@pytest.mark.parametrize(
    "listed", [version(0), version(model=""), version(reason="a\nb"), version(labels=["\x1b[2J"])], ids=str
)
def test_an_invalid_answer_is_a_fault_of_the_server(control: FakeControl, listed: pb.ModelVersion) -> None:
    control.versions = [listed]
    with GanClient(control.address) as client, pytest.raises(ServerFault, match="with invalid text"):
        client.versions()


def test_a_state_of_the_future_is_unknown(control: FakeControl) -> None:
    control.versions = [version(state=9)]
    with GanClient(control.address) as client:
        assert [listed.state for listed in client.versions()] == ["unknown"]
