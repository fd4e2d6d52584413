"""A stream of the core front."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from server.errors import InternalError, ServerError
from server.fronts.base import ClientLeft, Stream
from server.fronts.core_call import NO_FLAGS, CoreCall, given_up_status, initial_metadata, ok_status, status_of
from server.fronts.core_library import cygrpc

_NOTHING: Final = object()
# grpc.aio's clients report INTERNAL instead of the status if it comes while they write their first message.
_REFUSAL_S: Final = 0.01
_log = logging.getLogger(__name__)


class StreamCoreCall(CoreCall):
    """A call with any number of messages in each direction; its handler is a task.

    gRPC takes one message at a time in each direction, so at most one is read ahead, and writers wait in turn.

    Args:
        event: by which it arrived.
        method: answers it.
        loop: the running event loop.
        on_over: called once it has ended.
    """

    __slots__ = ("_last", "_outbox", "_reader", "_receiving", "_sent_initial", "_task", "_unread")

    def __init__(
        self, event: Any, method: Stream, loop: asyncio.AbstractEventLoop, on_over: Callable[[CoreCall], object]
    ) -> None:
        super().__init__(event, loop, on_over)
        self._reader: asyncio.Future[None] | None = None
        self._receiving = False
        self._unread: Any = _NOTHING  # a message that nobody waited for; None after the last one
        self._outbox: deque[tuple[bytes, asyncio.Future[None]]] = deque()  # the first is being sent
        self._sent_initial = False
        self._last: tuple[Any, ...] | None = None  # what ends the call once all messages are sent
        self._task = loop.create_task(method.answer(self))
        self._task.add_done_callback(self._answered)  # also if it is cancelled before it begins

    async def read(self) -> bytes | None:
        """Returns the next message; None after the last one. One reader at a time."""
        if self._unread is _NOTHING and not self._receiving:
            self._receiving = self._call is not None and self._begin(
                (cygrpc.ReceiveMessageOperation(NO_FLAGS),), self._received
            )
            if not self._receiving:
                self._unread = None
        while self._unread is _NOTHING:
            self._reader = self._loop.create_future()
            await self._reader
        message: bytes | None = self._unread
        if message is not None:
            self._unread = _NOTHING
        return message

    async def write(self, message: bytes) -> None:
        """Sends a message once those before it are sent.

        Raises:
            ClientLeft: nobody reads it.
        """
        if self.cancelled or self._ending:
            raise ClientLeft
        written: asyncio.Future[None] = self._loop.create_future()
        self._outbox.append((message, written))
        if len(self._outbox) == 1:
            self._write_first()
        await written

    def _received(self, event: Any) -> None:
        self._receiving = False
        self._unread = event.batch_operations[0].message()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _write_first(self) -> None:
        message, _ = self._outbox[0]
        operations = [cygrpc.SendMessageOperation(message, NO_FLAGS)]
        if not self._sent_initial:
            self._sent_initial = True
            operations.insert(0, initial_metadata())
        if not self._begin(operations, self._written):
            self._refuse_writers()

    def _written(self, event: Any) -> None:
        if not event.success:
            self._refuse_writers()
            return
        _, written = self._outbox.popleft()
        if not written.done():
            written.set_result(None)
        while self._outbox and self._outbox[0][1].done():  # its writer was cancelled
            self._outbox.popleft()
        if self._outbox:
            self._write_first()
        elif self._last is not None:
            self._end(*self._last)

    def _refuse_writers(self) -> None:
        writers, self._outbox = self._outbox, deque()
        for _, written in writers:
            if not written.done():
                written.set_exception(ClientLeft())
        if self._last is not None:
            self._end(*self._last)

    def _answered(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            status = given_up_status()
        elif error is None:
            status = ok_status()
        elif isinstance(error, ServerError):
            status = status_of(error)
        else:
            _log.error("a stream failed", exc_info=error)
            status = status_of(InternalError())
        self._last = (status,) if self._sent_initial else (initial_metadata(), status)
        if error is not None and not self._sent_initial:
            self._loop.call_later(_REFUSAL_S, self._end, *self._last)
        elif not self._outbox:
            self._end(*self._last)

    def _stop(self) -> None:
        self._task.cancel()
