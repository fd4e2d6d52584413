"""Loads on servers of known speed, on a clock that jumps to the next event: nothing waits, and results are exact."""

from __future__ import annotations

import asyncio
import itertools
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from client.bench.loads import ClosedLoad, Load, OpenLoad
from client.bench.loops import LOST_AFTER_S, Call, ServerLost, measure
from client.bench.results import NOT_SENT, OK, UNAVAILABLE, Results

_Result = TypeVar("_Result")

SERVICE_S = 0.125  # exact in binary, like all times here


class JumpingSelector(selectors.SelectSelector):
    """Advances its clock instead of waiting."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen"
        self.now_s += max(0.0, timeout)
        return super().select(0)


def simulated(work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    selector = JumpingSelector()

    def loop() -> asyncio.AbstractEventLoop:
        made = asyncio.SelectorEventLoop(selector)
        made.time = lambda: selector.now_s  # type: ignore[method-assign]
        return made

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(work())


def measured(
    load: Load, make_call: Callable[[], Call], *, stop_after_s: float = math.inf, **settings: Any
) -> tuple[Results | None, bool]:
    async def work() -> tuple[Results | None, bool]:
        defaults: dict[str, Any] = {"warmup_s": 1.0, "seconds": 8.0, "tick": lambda passed_s: passed_s >= stop_after_s}
        return await measure(load, make_call(), **(defaults | settings))

    return simulated(work)


def parallel_server() -> Call:
    """Answers each request after SERVICE_S, in parallel."""

    async def call(_number: int) -> str:
        await asyncio.sleep(SERVICE_S)
        return OK

    return call


def one_at_a_time() -> Call:
    """Answers one request after another, each in SERVICE_S."""
    lock = asyncio.Lock()

    async def call(_number: int) -> str:
        async with lock:
            await asyncio.sleep(SERVICE_S)
        return OK

    return call


@pytest.mark.parametrize("concurrency", [1, 4, 32])
def test_a_closed_loop_obeys_littles_law(concurrency: int) -> None:
    results, is_complete = measured(ClosedLoad(rows=16, concurrency=concurrency), parallel_server)
    assert is_complete
    assert results is not None
    assert results.requests_per_s == concurrency / SERVICE_S
    assert results.images_per_s == 16 * concurrency / SERVICE_S
    assert results.requests == results.answered == 8 * concurrency / SERVICE_S
    assert (results.p50_ms, results.p99_ms, results.max_ms) == (125, 125, 125)
    assert (results.errors, results.seconds, results.client_late_p99_ms) == ({}, 8, 0)


def test_callers_of_a_closed_loop_queue_at_a_sequential_server() -> None:
    results, _ = measured(ClosedLoad(rows=1, concurrency=4), one_at_a_time)
    assert results is not None
    assert (results.requests_per_s, results.p50_ms, results.p99_ms) == (8, 500, 500)


def test_an_open_loop_below_capacity_sends_at_the_given_rate() -> None:
    results, is_complete = measured(OpenLoad(rows=1, rate_per_s=4, arrivals="constant"), one_at_a_time)
    assert is_complete
    assert results is not None
    assert (results.requests, results.requests_per_s, results.p99_ms) == (32, 4, 125)


def test_an_open_loop_above_capacity_shows_growing_latency() -> None:
    """Request i is due at i/16 s and answered at (i+1)/8 s: responses do not delay requests."""
    results, _ = measured(
        OpenLoad(rows=1, rate_per_s=16, arrivals="constant"), one_at_a_time, warmup_s=0.0, seconds=10.0
    )
    assert results is not None
    assert results.requests == 160
    assert results.max_ms == 1e3 * (160 / 8 - 159 / 16)
    assert results.p50_ms == 1e3 * ((1 / 8) + 159 / 2 / 16)  # interpolated between the two middle ones
    assert results.requests_per_s == pytest.approx(8, abs=0.11)  # in 10 s; one response more or less


def test_an_open_loop_limits_unanswered_requests() -> None:
    results, _ = measured(
        OpenLoad(rows=1, rate_per_s=16, arrivals="constant"), one_at_a_time, warmup_s=0.0, max_waiting=2
    )
    assert results is not None
    assert results.requests == 128
    assert results.errors == {NOT_SENT: 128 - results.answered}
    assert results.answered == pytest.approx(64, abs=2)
    assert results.max_ms is not None
    assert results.max_ms <= 1e3 * 3 * SERVICE_S


@pytest.mark.parametrize("load", [ClosedLoad(1, 4), OpenLoad(1, 16, "constant")])
def test_errors_are_counted_by_status(load: Load) -> None:
    def flaky() -> Call:
        statuses = itertools.cycle([OK, "INTERNAL", OK, "RESOURCE_EXHAUSTED"])

        async def call(_number: int) -> str:
            await asyncio.sleep(SERVICE_S)
            return next(statuses)

        return call

    results, _ = measured(load, flaky)
    assert results is not None
    assert results.answered == results.requests / 2
    assert results.errors == {"INTERNAL": results.requests / 4, "RESOURCE_EXHAUSTED": results.requests / 4}


@pytest.mark.parametrize("load", [ClosedLoad(1, 4), OpenLoad(1, 16, "poisson")])
def test_an_outage_ends_the_measurement_soon(load: Load) -> None:
    ended_s = []

    def leaving() -> Call:
        clock = asyncio.get_running_loop()

        async def call(_number: int) -> str:
            ended_s.append(clock.time())
            return OK if clock.time() < 2 else UNAVAILABLE

        if isinstance(load, OpenLoad):
            return call

        async def slow_call(number: int) -> str:
            await asyncio.sleep(SERVICE_S)
            return await call(number)

        return slow_call

    with pytest.raises(ServerLost):
        measured(load, leaving, seconds=100.0)
    assert 2 + LOST_AFTER_S - 0.5 < max(ended_s) < 2 + LOST_AFTER_S + 0.5


def test_callers_without_a_server_pause_between_requests() -> None:
    asked = []

    def gone() -> Call:
        async def call(number: int) -> str:
            asked.append(number)
            return UNAVAILABLE

        return call

    with pytest.raises(ServerLost):
        measured(ClosedLoad(1, 1), gone, seconds=100.0)
    assert 1 < len(asked) < 50


@pytest.mark.parametrize("load", [ClosedLoad(1, 4), OpenLoad(1, 32, "constant")])
def test_a_stopped_measurement_keeps_its_results_and_ends_at_once(load: Load) -> None:
    results, is_complete = measured(load, parallel_server, stop_after_s=4.0)
    assert not is_complete
    assert results is not None
    assert results.seconds == pytest.approx(3.0, abs=0.2)
    assert results.requests_per_s == pytest.approx(32, rel=0.1)


def test_a_measurement_stopped_during_warm_up_has_no_results() -> None:
    assert measured(ClosedLoad(1, 4), parallel_server, stop_after_s=0.5) == (None, False)
