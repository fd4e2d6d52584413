"""Runs slow work that may never end on daemon threads, so that neither its caller nor the end of the process waits.

Python cannot end a thread. Threads of an executor, such as that of `asyncio.to_thread`, are joined when the process
ends; these are not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

_T = TypeVar("_T")
_running: set[threading.Thread] = set()
_abandoned: set[Future[Any]] = set()


class TooSlow(Exception):  # noqa: N818 - says what is wrong
    """Work has not ended in time."""


def running() -> int:
    """Number of threads that have not ended; if there are any, end the process with `os._exit`."""
    return len(_running)


def abandoned() -> int:
    """Number of those whose work was given up, because it took too long."""
    return len(_abandoned)


def start(work: Callable[[], _T], name: str) -> Future[_T]:
    """Starts `work` on its own daemon thread.

    Args:
        work: what to do.
        name: of the thread.

    Raises:
        RuntimeError: no more threads can be started.
    """
    outcome: Future[_T] = Future()
    outcome.set_running_or_notify_cancel()  # from now on it cannot be cancelled, so it always gets its outcome

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            _running.discard(thread)
            outcome.set_exception(error)
        else:
            _running.discard(thread)
            outcome.set_result(result)

    thread = threading.Thread(target=run, name=name, daemon=True)
    _running.add(thread)
    try:
        thread.start()
    except RuntimeError:
        _running.discard(thread)
        raise
    return outcome


async def in_daemon_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    """Like `asyncio.to_thread`, for work that may never end, such as reading a disk that stalls.

    Args:
        work: what to do.
        arguments: for it.

    Raises:
        Exception: the work failed.
    """
    return await asyncio.wrap_future(start(partial(work, *arguments), getattr(work, "__name__", "work")))


def run_within(limit_s: float, work: Callable[[], _T], name: str, discard: Callable[[_T], object]) -> _T:
    """Runs `work` on its own daemon thread, and waits for it no longer than `limit_s` seconds.

    Args:
        limit_s: the longest time to wait, in seconds.
        work: what to do.
        name: of the thread.
        discard: frees a result that comes too late; called once, in either thread.

    Raises:
        TooSlow: the time has passed. The work goes on until it ends by itself.
    """
    outcome = start(work, name)
    try:
        return outcome.result(limit_s)
    except TimeoutError:  # which the work may raise, too
        if outcome.done():
            return outcome.result()

        def end(late: Future[_T]) -> None:
            _abandoned.discard(late)
            if late.exception() is None:
                discard(late.result())

        _abandoned.add(outcome)
        outcome.add_done_callback(end)
        raise TooSlow(f"it has not ended after {limit_s:g} s") from None


class OneAtATime:
    """Runs work that callers ask for on daemon threads, one at a time, so that callers cannot start many threads.

    Work that never ends holds up the rest, also after its caller has given up. For one event loop.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """See `in_daemon_thread`."""
        await self._turn.acquire()
        outcome = asyncio.ensure_future(in_daemon_thread(work, *arguments))
        outcome.add_done_callback(lambda _: self._turn.release())
        return await asyncio.shield(outcome)  # a caller that gives up leaves the turn to the work
