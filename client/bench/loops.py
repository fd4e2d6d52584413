"""Puts a load on whatever answers calls, on one event loop, and notes what comes of it. Knows no gRPC."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from client.bench.loads import ClosedLoad, Load, OpenLoad, due_times_s
from client.bench.results import NOT_SENT, UNAVAILABLE, Outcome, Results

Call: TypeAlias = Callable[[int], Awaitable[str]]  # sends the request of a number, and gives its status

MAX_WAITING: Final = 10_000  # requests of an open loop; each costs memory
LOST_AFTER_S: Final = 3.0  # that long without a server, and nothing more is to be measured

_TICK_S: Final = 0.125
_LOST_PAUSE_S: Final = 0.125  # a caller who finds no server does not ask again at once


class ServerLost(Exception):  # noqa: N818  (it says what happened)
    """No request has found a server for some time."""


async def measure(
    load: Load,
    call: Call,
    *,
    warmup_s: float,
    seconds: float,
    tick: Callable[[float], bool],
    max_waiting: int = MAX_WAITING,
) -> tuple[Results | None, bool]:
    """Puts a load on the server, and waits for what it has answered.

    Args:
        load: what to send.
        call: sends it; gives a status, and raises nothing.
        warmup_s: how long the load is on before it is measured.
        seconds: how long it is measured.
        tick: is told now and then how many seconds have passed; true ends it.
        max_waiting: of an open loop: with so many requests that wait for an answer, the next one is not sent.

    Returns:
        The results, None if it ended before anything was measured; and whether it took its whole time.

    Raises:
        ServerLost: there is no server any more.
    """
    clock = asyncio.get_running_loop()
    began_s, used_s = clock.time(), time.thread_time()
    outcome = Outcome(began_s + warmup_s, began_s + warmup_s + seconds)
    if isinstance(load, ClosedLoad):
        work = _closed(load, call, outcome, began_s + warmup_s + seconds)
    else:
        work = _open(load, call, outcome, began_s, warmup_s + seconds, max_waiting)
    task = asyncio.ensure_future(work)
    is_stopped = is_lost = False
    try:
        while not task.done() and not is_stopped and not is_lost:
            await asyncio.wait({task}, timeout=_TICK_S)
            now_s = clock.time()
            is_stopped = tick(now_s - began_s)
            is_lost = outcome.lost_since_s is not None and now_s - outcome.lost_since_s > LOST_AFTER_S
    finally:
        is_complete = task.done()
        task.cancel()
        await asyncio.wait({task})
    if is_lost and not is_complete:
        raise ServerLost
    if is_complete:
        task.result()  # raises what went wrong in it
    wall_s = clock.time() - began_s
    cores = (time.thread_time() - used_s) / wall_s if wall_s else 0.0
    return outcome.results(load.rows, math.inf if is_complete else clock.time(), cores), is_complete


async def _closed(load: ClosedLoad, call: Call, outcome: Outcome, ends_s: float) -> None:
    clock = asyncio.get_running_loop()

    async def caller(number: int) -> None:
        while (sent_s := clock.time()) < ends_s:
            status = await call(number)
            outcome.add(status, sent_s, sent_s, clock.time())
            number += load.concurrency
            if status == UNAVAILABLE:
                await asyncio.sleep(_LOST_PAUSE_S)

    async with asyncio.TaskGroup() as callers:
        for number in range(load.concurrency):
            callers.create_task(caller(number))


async def _open(load: OpenLoad, call: Call, outcome: Outcome, began_s: float, seconds: float, max_waiting: int) -> None:
    clock = asyncio.get_running_loop()
    waiting = 0

    async def send(number: int, due_s: float) -> None:
        nonlocal waiting
        sent_s = clock.time()
        status = await call(number)
        outcome.add(status, due_s, sent_s, clock.time())
        waiting -= 1

    async with asyncio.TaskGroup() as requests:
        for number, offset_s in enumerate(due_times_s(load, seconds)):
            due_s = began_s + offset_s
            # Once for each request at least: those that are late must not keep answers from being read.
            await asyncio.sleep(max(0.0, due_s - clock.time()))
            if waiting >= max_waiting:
                outcome.add(NOT_SENT, due_s, clock.time(), clock.time())
                continue
            waiting += 1
            requests.create_task(send(number, due_s))
