"""Applies a load to a callable on one event loop, and records the outcome of each request."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from client.bench.loads import ClosedLoad, Load, OpenLoad, due_times_s
from client.bench.results import NOT_SENT, UNAVAILABLE, Outcome, Results

Call: TypeAlias = Callable[[int], Awaitable[str]]  # sends the request with this number; returns its status

MAX_WAITING: Final = 10_000  # unanswered requests of an open loop; each takes memory
LOST_AFTER_S: Final = 3.0  # the measurement ends after this long without a server

_TICK_S: Final = 0.125
_LOST_PAUSE_S: Final = 0.125  # before a caller that found no server tries again


class ServerLost(Exception):  # noqa: N818  (the name says what happened)
    """No request has reached a server for LOST_AFTER_S."""


async def measure(
    load: Load,
    call: Call,
    *,
    warmup_s: float,
    seconds: float,
    tick: Callable[[float], bool],
    max_waiting: int = MAX_WAITING,
) -> tuple[Results | None, bool]:
    """Applies a load to the server, and waits for the responses.

    Args:
        load: The load to apply.
        call: Sends a request and returns its status; must not raise.
        warmup_s: How long the load runs before the measurement.
        seconds: The duration of the measurement.
        tick: Called regularly with the seconds that have passed; if it returns True, the load ends.
        max_waiting: For an open loop, the most unanswered requests; beyond it, requests are counted as NOT_SENT.

    Returns:
        The results, or None if the load ended before the measurement began; and whether the load ran to its end.

    Raises:
        ServerLost: The server is gone.
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
        task.result()  # re-raises its exception
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
            # Sleep at least once per request, even when late, so that responses are processed.
            await asyncio.sleep(max(0.0, due_s - clock.time()))
            if waiting >= max_waiting:
                outcome.add(NOT_SENT, due_s, clock.time(), clock.time())
                continue
            waiting += 1
            requests.create_task(send(number, due_s))
