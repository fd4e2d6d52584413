from __future__ import annotations

import pytest

from client.errors import ServerFault
from client.sdk.steps import Emit, Send, Wait, emitted, unary


def test_unary_sends_waits_and_returns_the_response() -> None:
    steps = unary("ListModels", "request")
    assert next(steps) == Send("ListModels", "request")
    assert steps.send("handle") == Wait("handle")
    with pytest.raises(StopIteration) as ended:
        steps.send("response")
    assert ended.value.value == "response"


def test_the_result_of_steps_is_emitted_and_their_errors_pass_through() -> None:
    steps = emitted(unary("ListModels", "request"))
    next(steps)
    steps.send("handle")
    assert steps.send("response") == Emit("response")
    failing = emitted(unary("ListModels", "request"))
    next(failing)
    with pytest.raises(ServerFault):
        failing.throw(ServerFault("broken"))
