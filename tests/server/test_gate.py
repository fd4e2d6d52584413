from __future__ import annotations

import asyncio

import pytest

from server.errors import Unavailable
from server.gate import Gate


def test_a_gate_refuses_requests_until_it_is_open() -> None:
    gate = Gate()
    with pytest.raises(Unavailable, match="the server is starting"):
        gate.enter()
    gate.open()
    gate.enter()
    assert (gate.is_open, gate.inside) == (True, 1)


def test_a_retired_gate_is_not_ready_but_lets_requests_in() -> None:
    gate = Gate()
    gate.open()
    assert gate.is_ready
    gate.retire()
    gate.enter()
    gate.enter(in_stream=True)
    assert (gate.is_open, gate.is_ready, gate.inside) == (True, False, 2)


def test_a_draining_gate_lets_in_calls_that_grpc_has_accepted_but_no_messages_of_streams() -> None:
    gate = Gate()
    gate.open()
    gate.enter()
    gate.drain()
    gate.open()
    with pytest.raises(Unavailable, match="the server is draining: try another replica"):
        gate.enter(in_stream=True)
    gate.enter()
    assert (gate.is_open, gate.is_ready, gate.state, gate.inside) == (False, False, "draining", 2)


def test_a_retired_gate_is_open_and_not_ready() -> None:
    gate = Gate()
    states = [(gate.is_open, gate.is_ready, gate.state)]
    for change in (gate.open, gate.retire, gate.drain):
        change()
        states.append((gate.is_open, gate.is_ready, gate.state))
    assert states == [
        (False, False, "starting"),
        (True, True, "ready"),
        (True, False, "stopping"),
        (False, False, "draining"),
    ]


async def test_the_wait_for_an_empty_gate_ends_with_the_last_request() -> None:
    gate = Gate()
    gate.open()
    gate.enter()
    gate.enter()
    waiting = asyncio.create_task(gate.wait_until_empty())
    gate.leave()
    await asyncio.wait((waiting,), timeout=0)
    assert not waiting.done()
    gate.leave()
    await waiting
