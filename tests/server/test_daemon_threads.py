from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from server import daemon_threads
from server.daemon_threads import OneAtATime, TooSlow, in_daemon_thread, run_within, start
from tests.server.scheduling.held_run import until

WAIT_S = 30.0


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Work that waits for it ends at the end of the test at the latest."""
    event = threading.Event()
    yield event
    event.set()
    for thread in list(daemon_threads._running):
        thread.join(WAIT_S)


def nothing(_: object) -> None:
    """Frees nothing."""


def test_the_result_of_work_in_time_comes_back() -> None:
    assert run_within(WAIT_S, lambda: 7, "work", nothing) == 7


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError("of the work itself"), SystemExit(3)])
def test_the_error_of_work_in_time_is_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        run_within(WAIT_S, fail, "work", nothing)
    assert raised.value is error


def test_work_that_takes_too_long_is_abandoned_and_its_late_result_freed(held: threading.Event) -> None:
    freed: list[str] = []
    was_freed = threading.Event()

    def work() -> str:
        assert held.wait(WAIT_S)
        return "engine"

    def free(result: str) -> None:
        freed.append(result)
        was_freed.set()

    before, abandoned = daemon_threads.running(), daemon_threads.abandoned()
    with pytest.raises(TooSlow, match=r"^it has not ended after 0\.01 s$"):
        run_within(0.01, work, "work", free)
    assert daemon_threads.running() == before + 1
    assert daemon_threads.abandoned() == abandoned + 1
    assert freed == []
    held.set()
    assert was_freed.wait(WAIT_S)
    assert freed == ["engine"]
    assert daemon_threads.running() == before
    assert daemon_threads.abandoned() == abandoned


def test_a_late_error_is_dropped(held: threading.Event) -> None:
    raised = threading.Event()

    def work() -> None:
        assert held.wait(WAIT_S)
        raised.set()
        raise ValueError

    with pytest.raises(TooSlow):
        run_within(0.01, work, "work", nothing)
    held.set()
    assert raised.wait(WAIT_S)


def test_the_threads_are_daemons_and_named() -> None:
    thread = start(threading.current_thread, "load tiny:1").result(WAIT_S)
    assert thread.daemon
    assert thread.name == "load tiny:1"


def test_a_thread_that_cannot_be_started_counts_as_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = daemon_threads.running()
    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="can't start"):
        start(lambda: None, "work")
    assert daemon_threads.running() == before


async def test_awaited_work_runs_on_a_daemon_thread_and_its_error_is_raised() -> None:
    assert (await in_daemon_thread(threading.current_thread)).daemon
    with pytest.raises(ValueError, match="invalid literal"):
        await in_daemon_thread(int, "x")


async def test_a_caller_that_gives_up_does_not_wait(held: threading.Event) -> None:
    before = daemon_threads.running()
    waiting = asyncio.create_task(in_daemon_thread(held.wait, WAIT_S))
    await until(lambda: daemon_threads.running() == before + 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held.set()
    await until(lambda: daemon_threads.running() == before)


def test_work_that_is_given_up_does_not_keep_the_event_loop_from_ending(held: threading.Event) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_daemon_thread(held.wait, WAIT_S), 0.01)

    asyncio.run(give_up())  # joins the threads of asyncio.to_thread
    assert not held.is_set()


async def test_callers_share_one_thread_even_if_they_give_up(held: threading.Event) -> None:
    before = daemon_threads.running()
    disk = OneAtATime()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(disk.run(held.wait, WAIT_S), 0.01)
    assert daemon_threads.running() == before + 1
    last = asyncio.create_task(disk.run(int, "7"))
    held.set()
    assert await last == 7


async def test_an_error_reaches_its_caller_only() -> None:
    disk = OneAtATime()
    with pytest.raises(ValueError, match="invalid literal"):
        await disk.run(int, "x")
    assert await disk.run(int, "7") == 7
