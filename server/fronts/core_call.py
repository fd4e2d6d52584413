"""What unary calls and streams of the core front have in common."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from server.errors import ServerError, Unavailable
from server.fronts.base import Metadata
from server.fronts.core_library import cygrpc

NO_FLAGS: Final = 0
_FOREVER_S: Final = 1e12  # gRPC spells "no deadline" as a time in the far future
_OK: Final = 0


class CoreCall:
    """A call of gRPC's core. For the event loop only.

    gRPC is asked for batches of operations; each names what to call with its event once it is complete.

    Args:
        event: by which the call arrived.
        loop: the running event loop.
        on_over: called once the call has ended.
    """

    __slots__ = ("_call", "_callbacks", "_deadline", "_ending", "_loop", "_metadata", "_on_over", "cancelled")

    def __init__(self, event: Any, loop: asyncio.AbstractEventLoop, on_over: Callable[[CoreCall], object]) -> None:
        self._call = event.call  # None once it is over: gRPC cannot shut down before it is released
        self._deadline: float = event.call_details.deadline  # seconds since the epoch
        self._metadata: Metadata = event.invocation_metadata
        self._loop = loop
        self._on_over = on_over
        self._callbacks: list[Callable[[], object]] = []
        self._ending = False
        self.cancelled = False

    @property
    def is_ending(self) -> bool:
        """Whether its last operations have begun, or the client has left."""
        return self._ending

    def invocation_metadata(self) -> Metadata:
        """Returns the metadata that the client sent."""
        return self._metadata

    def peer(self) -> str:
        """Returns the address of the client."""
        peer: bytes = b"" if self._call is None else self._call.peer()
        return peer.decode()

    def time_remaining(self) -> float | None:
        """Returns the seconds until the deadline; None without one."""
        return None if self._deadline > _FOREVER_S else max(0.0, self._deadline - time.time())

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Calls back once the call has ended."""
        self._callbacks.append(callback)

    def watch(self) -> None:
        """Asks gRPC to tell when the client leaves or the deadline passes. Call it once, first."""
        self._begin((cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),), self._closed)

    def _begin(self, operations: Sequence[Any], completed: Callable[[Any], object]) -> bool:
        """Starts operations; returns False if gRPC refuses, because the call is over."""
        return self._call is not None and self._call.start_server_batch(operations, completed) == _OK

    def _end(self, *operations: Any) -> None:
        """Ends the call with these operations; without any if the client has left."""
        if self._call is None:
            return
        self._ending = True
        if self.cancelled or not self._begin(operations, self._sent):
            self._over()

    def _sent(self, _: Any) -> None:
        self._over()

    def _over(self) -> None:
        self._ending = True
        self._call = None
        callbacks, self._callbacks = self._callbacks, []
        self._on_over(self)
        for callback in callbacks:
            callback()

    def _closed(self, event: Any) -> None:
        if event.batch_operations[0].cancelled() and not self._ending:
            self.cancelled = True
            self._stop()

    def _stop(self) -> None:
        """Ends the work for a client that has left; each kind of call has its own."""
        raise NotImplementedError


def initial_metadata() -> Any:
    """Returns the operation that must precede any message."""
    return cygrpc.SendInitialMetadataOperation(None, NO_FLAGS)


def status_of(error: ServerError) -> Any:
    """Returns the operation that ends a call with the status of an error."""
    number, _ = error.code.value
    return cygrpc.SendStatusFromServerOperation(
        error.trailing_metadata, number, str(error).encode("utf-8", "backslashreplace"), NO_FLAGS
    )


def ok_status() -> Any:
    """Returns the operation that ends a call well."""
    return cygrpc.SendStatusFromServerOperation(None, _OK, b"", NO_FLAGS)


def given_up_status() -> Any:
    """Returns the operation that ends a call whose handler was cancelled, although its client has not left."""
    return status_of(Unavailable("the server gave this call up: try again"))
