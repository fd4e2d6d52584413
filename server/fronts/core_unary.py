"""A unary call of the core front."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from server.errors import InternalError, ServerError
from server.fronts.base import CANCELLATION_S, Unary, empty_call
from server.fronts.core_call import NO_FLAGS, CoreCall, given_up_status, initial_metadata, ok_status, status_of
from server.fronts.core_library import cygrpc
from server.fronts.stepped import SteppedTask

_log = logging.getLogger(__name__)


class UnaryCoreCall(CoreCall):
    """A call with one message in each direction.

    Args:
        event: by which it arrived.
        method: answers it.
        loop: the running event loop.
        on_received: called with the call and its message.
        on_over: called once it has ended.
    """

    __slots__ = ("_on_received", "_task", "method")

    def __init__(
        self,
        event: Any,
        method: Unary,
        loop: asyncio.AbstractEventLoop,
        on_received: Callable[[UnaryCoreCall, bytes], object],
        on_over: Callable[[CoreCall], object],
    ) -> None:
        super().__init__(event, loop, on_over)
        self.method = method
        self._on_received = on_received
        self._task: SteppedTask | None = None

    def receive(self) -> None:
        """Asks for the message, if the method admits the call."""
        try:
            self.method.admit(self)
        except ServerError as error:
            self._refuse(error)
        except Exception:  # noqa: BLE001 - logged here; the client learns no details
            _log.exception("a call failed")
            self._end(initial_metadata(), status_of(InternalError()))
        else:
            self._begin((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self._received)

    def answer(self, body: bytes) -> None:
        """Runs the method as far as it comes without waiting."""
        self._task = SteppedTask(self._run(body), self._loop)
        self._task.start()

    def send(self, answer: bytes) -> None:
        """Ends the call with its answer."""
        self._end(initial_metadata(), cygrpc.SendMessageOperation(answer, NO_FLAGS), ok_status())

    def _received(self, event: Any) -> None:
        message: bytes | None = event.batch_operations[0].message()
        if message is not None:
            self._on_received(self, message)
        elif not self._ending:
            self._loop.call_later(CANCELLATION_S, self._refuse_empty)

    def _refuse_empty(self) -> None:
        if not self._ending:
            self._refuse(empty_call())

    def _refuse(self, error: ServerError) -> None:
        self.method.refused(self, error)
        self._end(initial_metadata(), status_of(error))

    async def _run(self, body: bytes) -> None:
        try:
            answer = await self.method.answer(body, self)
        except ServerError as error:
            self._end(initial_metadata(), status_of(error))
        except asyncio.CancelledError:
            self._end(initial_metadata(), given_up_status())
        except Exception:  # noqa: BLE001 - logged here; the client learns no details
            _log.exception("a call failed")
            self._end(initial_metadata(), status_of(InternalError()))
        else:
            self.send(answer)
        finally:
            self._task = None  # it holds this coroutine

    def _stop(self) -> None:
        if self._task is None:
            self._over()  # its message has not come yet
        else:
            self._task.cancel()
