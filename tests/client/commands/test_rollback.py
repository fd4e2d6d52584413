from __future__ import annotations

import json

from ganserve.v1 import model_control_pb2 as pb
from tests.client.fake_control import FakeControl, version
from tests.client.test_main import run


def test_rollback_prints_the_versions(control: FakeControl) -> None:
    control.versions = [version(2, is_default=True, is_chosen=True)]
    result = run("rollback", "dcgan", address=control.address)
    assert (result.exit_code, control.requests) == (0, [pb.RollbackModelRequest(model="dcgan")])
    assert result.stdout.splitlines()[1].split() == ["dcgan", "2", "ready", "chosen", "-", "-"]
    assert json.loads(run("rollback", "dcgan", "--json", address=control.address).stdout)[0]["is_chosen"]
