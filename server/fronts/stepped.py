"""Runs a coroutine as asyncio runs a task, except that its first step runs at once and its end needs no callback.

A request that is computed without waiting thus costs no turn of the event loop. From Python 3.12 on, asyncio has eager
tasks, which do the same; this module can go once 3.11 does.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # documented under "Extending asyncio"
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any


class SteppedTask:
    """A coroutine in progress. What it awaits may use it as the current task, as `asyncio.timeout` does.

    The coroutine must handle its own errors and end with None.

    Args:
        coroutine: what to run; `start` begins it.
        loop: the running event loop.
    """

    __slots__ = ("__weakref__", "_cancelling", "_context", "_coroutine", "_done", "_loop", "_must_cancel", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._context = copy_context()
        self._waits_for: asyncio.Future[Any] | None = None
        self._must_cancel = self._done = False
        self._cancelling = 0

    def start(self) -> None:
        """Runs the coroutine until it first waits. Call it from the event loop, not from a task."""
        self._context.run(self._step)

    def cancel(self, msg: object = None) -> bool:
        """Raises CancelledError where the coroutine waits, soon."""
        self._cancelling += 1
        if self._waits_for is None or not self._waits_for.cancel():
            self._must_cancel = True
        return True

    def cancelling(self) -> int:
        """Number of calls of `cancel` that no `uncancel` took back."""
        return self._cancelling

    def uncancel(self) -> int:
        """Takes one `cancel` back; `asyncio.timeout` does so for its own."""
        self._cancelling = max(0, self._cancelling - 1)
        if not self._cancelling:
            self._must_cancel = False
        return self._cancelling

    def done(self) -> bool:
        """Returns whether the coroutine has ended."""
        return self._done

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Returns its event loop."""
        return self._loop

    def _step(self, _: object = None) -> None:
        self._waits_for = None
        task: Any = self
        _enter_task(self._loop, task)
        try:
            if self._must_cancel:
                self._must_cancel = False
                awaited = self._coroutine.throw(asyncio.CancelledError())
            else:
                awaited = self._coroutine.send(None)
        except StopIteration:
            self._done = True
            return
        finally:
            _leave_task(self._loop, task)
        if awaited is None:  # a bare yield, as in asyncio.sleep(0)
            self._loop.call_soon(self._step, context=self._context)
            return
        awaited._asyncio_future_blocking = False  # as every task does for the future that it waits for
        self._waits_for = awaited
        awaited.add_done_callback(self._step, context=self._context)
        if self._must_cancel and awaited.cancel():
            self._must_cancel = False
