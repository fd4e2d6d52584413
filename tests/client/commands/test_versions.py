from __future__ import annotations

import json

import grpc

from ganserve.v1 import model_control_pb2 as pb
from tests.client.fake_control import FakeControl, version
from tests.client.test_main import error_of, run


def test_versions_are_plain_text_in_a_pipe(control: FakeControl) -> None:
    control.versions = [
        version(1, labels=["old", "stable"]),
        version(2, is_default=True, is_chosen=True),
        version(3, state=pb.VERSION_STATE_UNAVAILABLE, reason="its sha256 differs"),
        version(1, "wgan", is_default=True),
        version(2, "wgan", state=pb.VERSION_STATE_LOADING),
    ]
    result = run("versions", address=control.address)
    assert [line.split(None, 5) for line in result.stdout.splitlines()] == [
        ["model", "version", "state", "default", "labels", "reason"],
        ["dcgan", "1", "ready", "-", "old,stable", "-"],
        ["dcgan", "2", "ready", "chosen", "-", "-"],
        ["dcgan", "3", "unavailable", "-", "-", "its sha256 differs"],
        ["wgan", "1", "ready", "newest", "-", "-"],
        ["wgan", "2", "loading", "-", "-", "-"],
    ]


def test_versions_of_one_model_as_json_have_every_field(control: FakeControl) -> None:
    control.versions = [version(labels=["stable"], is_default=True)]
    result = run("versions", "dcgan", "--json", address=control.address)
    assert control.requests == [pb.ListVersionsRequest(model="dcgan")]
    assert json.loads(result.stdout) == [
        {
            "model": "dcgan",
            "version": 3,
            "state": "ready",
            "reason": "",
            "labels": ["stable"],
            "is_default": True,
            "is_chosen": False,
        }
    ]


def test_an_unknown_model_is_a_one_line_error(control: FakeControl) -> None:
    control.failures.append((grpc.StatusCode.NOT_FOUND, "no model 'x' is in the repository"))
    result = run("versions", "x", address=control.address)
    assert result.exit_code == 2
    assert error_of(result) == "Error: no model 'x' is in the repository"
