from __future__ import annotations

import asyncio
import math

import pytest

from server.gate import Gate
from server.quiet import wait_until_quiet

PATIENCE_S = 0.1


@pytest.fixture
def gate() -> Gate:
    gate = Gate()
    gate.open()
    return gate


def nothing() -> int:
    return 0


async def test_an_idle_server_is_quiet(gate: Gate) -> None:
    gate.enter()
    gate.leave()
    assert await wait_until_quiet(gate, nothing, math.inf)


async def test_it_is_not_quiet_until_the_last_request_has_left(gate: Gate) -> None:
    gate.enter()
    waiting = asyncio.create_task(wait_until_quiet(gate, nothing, PATIENCE_S))
    await asyncio.sleep(3 * PATIENCE_S)  # a request may take longer than the patience
    assert not waiting.done()
    gate.leave()
    assert await waiting


async def test_it_is_not_quiet_until_the_last_byte_is_sent(gate: Gate) -> None:
    unsent = [3, 2, 2, 1]
    assert await wait_until_quiet(gate, lambda: unsent.pop() if unsent else 0, math.inf)
    assert not unsent


async def test_it_does_not_wait_for_clients_that_do_not_read(gate: Gate) -> None:
    assert not await wait_until_quiet(gate, lambda: 1, PATIENCE_S)


@pytest.mark.parametrize("is_always_inside", [False, True])
async def test_it_gives_up_if_requests_keep_coming(gate: Gate, is_always_inside: bool) -> None:
    if is_always_inside:
        gate.enter()
    waiting = asyncio.create_task(wait_until_quiet(gate, nothing, PATIENCE_S))
    while not waiting.done():
        gate.enter()
        gate.leave()
        await asyncio.sleep(0)
    assert not waiting.result()
