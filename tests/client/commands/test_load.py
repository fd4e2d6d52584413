from __future__ import annotations

import json

import grpc
import pytest

from ganserve.v1 import model_control_pb2 as pb
from tests.client.fake_control import FakeControl
from tests.client.test_main import error_of, run


@pytest.mark.parametrize(
    ("flags", "request_"),
    [
        ([], pb.LoadModelRequest(model="dcgan")),
        (["--version", "2"], pb.LoadModelRequest(model="dcgan", version=2)),
        (["--newest"], pb.LoadModelRequest(model="dcgan", newest=True)),
    ],
)
def test_load_prints_the_versions(control: FakeControl, flags: list[str], request_: pb.LoadModelRequest) -> None:
    result = run("load", "dcgan", *flags, address=control.address)
    assert (result.exit_code, control.requests) == (0, [request_])
    assert result.stdout.splitlines()[2].split() == ["dcgan", "3", "ready", "newest", "-", "-"]
    assert 200 < control.timeouts_s[0] < 310
    assert len(json.loads(run("load", "dcgan", "--json", address=control.address).stdout)) == 2


def test_a_version_that_does_not_work_is_a_one_line_error(control: FakeControl) -> None:
    reason = "'dcgan': version 4 was not loaded: its sha256 differs; version 3 is served"
    control.failures.append((grpc.StatusCode.FAILED_PRECONDITION, reason))
    result = run("load", "dcgan", address=control.address)
    assert (result.exit_code, error_of(result)) == (1, f"Error: {reason}")


def test_a_version_and_the_newest_exclude_each_other(control: FakeControl) -> None:
    result = run("load", "dcgan", "--version", "2", "--newest", address=control.address)
    assert (result.exit_code, control.requests) == (2, [])
    assert error_of(result) == "Error: --version and --newest: give only one of them"
