from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from server.fronts.stepped import SteppedTask

Run = Callable[[Coroutine[Any, Any, None]], SteppedTask]


@pytest.fixture
async def run() -> Run:
    """Starts a coroutine from the event loop, as a front does."""

    def start(coroutine: Coroutine[Any, Any, None]) -> SteppedTask:
        task = SteppedTask(coroutine, asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(task.start)
        return task

    return start


async def outcome(run: Run, work: Callable[[], Awaitable[Any]], cancel_when: asyncio.Event | None = None) -> Any:
    """What a coroutine returns or raises."""
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def report() -> None:
        try:
            done.set_result(await work())
        except BaseException as error:  # noqa: BLE001 - returned
            done.set_result(error)

    task = run(report())
    if cancel_when is not None:
        await cancel_when.wait()
        task.cancel()
    return await asyncio.wait_for(done, 20)


async def test_the_first_step_runs_at_once() -> None:
    steps: list[str] = []
    ended = asyncio.Event()

    async def work() -> None:
        steps.append("began")
        await asyncio.sleep(0)
        steps.append("went on")
        ended.set()

    def start() -> None:
        SteppedTask(work(), asyncio.get_running_loop()).start()
        steps.append("returned")

    asyncio.get_running_loop().call_soon(start)
    await asyncio.wait_for(ended.wait(), 20)
    assert steps == ["began", "returned", "went on"]


async def test_results_and_errors_of_futures_arrive(run: Run) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("told")

    assert await outcome(run, lambda: asyncio.sleep(0.001, 7)) == 7
    assert str(await outcome(run, lambda: asyncio.create_task(fail()))) == "told"


@pytest.mark.parametrize("waits", ["future", "task", "nothing"])
async def test_cancelling_raises_where_it_waits(run: Run, waits: str) -> None:
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        if waits == "future":
            await asyncio.get_running_loop().create_future()
        elif waits == "task":
            await asyncio.create_task(asyncio.sleep(60))
        for _ in range(1000):
            await asyncio.sleep(0)

    assert isinstance(await outcome(run, work, began), asyncio.CancelledError)


async def test_a_result_that_came_before_the_cancellation_is_not_lost_to_the_awaited_future(run: Run) -> None:
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    seen: list[Any] = []
    ended = asyncio.Event()

    async def work() -> None:
        try:
            seen.append(await ready)
        except asyncio.CancelledError:
            seen.append("cancelled")
        ended.set()

    task = run(work())
    await asyncio.sleep(0)
    ready.set_result(1)
    task.cancel()  # the step with the result is due already
    await asyncio.wait_for(ended.wait(), 20)
    assert seen == ["cancelled"]
    assert ready.result() == 1


async def test_timeouts_end_what_they_guard_and_only_that(run: Run) -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            await asyncio.sleep(0)
            return "went on"
        return "never"

    assert await outcome(run, work) == "went on"


async def test_a_failing_group_of_tasks_cancels_its_parent_only_inside(run: Run) -> None:
    async def fail() -> None:
        raise ValueError("told")

    async def work() -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.Event().wait()
        except* ValueError:
            pass
        await asyncio.sleep(0)
        return "went on"

    assert await outcome(run, work) == "went on"
