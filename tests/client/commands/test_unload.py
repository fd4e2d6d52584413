from __future__ import annotations

import pytest

from ganserve.v1 import model_control_pb2 as pb
from tests.client.fake_control import FakeControl
from tests.client.test_main import run


@pytest.mark.parametrize(("flags", "number", "what"), [([], 0, "dcgan"), (["--version", "2"], 2, "dcgan:2")])
def test_unload_says_what_it_unloaded(control: FakeControl, flags: list[str], number: int, what: str) -> None:
    result = run("unload", "dcgan", *flags, address=control.address)
    assert (result.exit_code, result.stdout) == (0, f"unloaded {what}\n")
    assert control.requests == [pb.UnloadModelRequest(model="dcgan", version=number)]
