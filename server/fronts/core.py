"""The front on gRPC's core, through the Cython layer of grpcio: a fifth of the cost of grpc.aio per request.

grpc.aio makes about five futures and tasks per call, and hands over about one event per turn of the event loop. Here,
a thread waits for the first event of a burst and leaves the rest to the event loop, which takes events until there are
none: two threads that take turns at the interpreter's lock for every event would cost three times as much.

The Cython layer is private, but grpcio's own blocking server stands on the same calls, and `core_library` checks them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import grpc

from server.fronts.base import Methods, Stream, Unary
from server.fronts.core_call import NO_FLAGS, CoreCall, initial_metadata
from server.fronts.core_library import cygrpc
from server.fronts.core_stream import StreamCoreCall
from server.fronts.core_unary import UnaryCoreCall

_CALLS_AHEAD: Final = 128  # calls that gRPC may hand over before the event loop asks for more
_BURST: Final = 64  # events taken in one turn of the event loop, which others need, too
_LINGER_S: Final = 0.0005  # gRPC rounds it up to milliseconds
_METHOD_NOT_FOUND: Final = (grpc.StatusCode.UNIMPLEMENTED, b"Method not found!")  # as in grpcio
_TOO_MANY_CALLS: Final = (grpc.StatusCode.RESOURCE_EXHAUSTED, b"Concurrent RPC limit exceeded!")

_log = logging.getLogger(__name__)


class CoreFront:
    """Serves with gRPC's core.

    Args:
        methods: what it serves.
        options: channel arguments of gRPC.
        max_calls: the most calls at once.
        alone: whether only this front brings calls to the event loop, so that it may keep an idle one waiting.
    """

    def __init__(
        self, methods: Methods, options: Sequence[tuple[str, int]], max_calls: int, *, alone: bool = True
    ) -> None:
        self._methods = {path.encode(): method for path, method in methods.items()}
        self._max_calls = max_calls
        self._alone = alone
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(list(options), False)
        self._server.register_completion_queue(self._queue)
        self._calls: set[CoreCall] = set()
        self._inbox: dict[Unary, list[tuple[UnaryCoreCall, bytes]]] = {}  # by method
        self._first: Any = None  # the first event of a burst
        self._turn = threading.Lock()  # released when the thread may wait for the next burst
        self._turn.acquire()
        self._stopping = self._is_shut_down = self._is_over = False
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listens from `start` on; see `Front.add_port`."""
        secret: Any = credentials
        port: int = self._server.add_http2_port(address.encode(), *([] if secret is None else [secret._credentials]))
        if not port:
            raise RuntimeError(f"gRPC cannot listen on {address}")
        return port

    async def start(self) -> None:
        """Accepts calls."""
        self._begin()
        for _ in range(_CALLS_AHEAD):
            self._ask_for_a_call()

    async def stop(self, grace_s: float | None) -> None:
        """Accepts no call from now on, and returns once all have ended; see `Front.stop`."""
        if self._thread is None:  # gRPC can shut down only what has started
            self._begin()
        if not self._stopping:
            self._stopping = True
            self._server.shutdown(self._queue, self._shut_down)
        if grace_s is not None and not self._over.is_set():
            await asyncio.wait((asyncio.ensure_future(self._over.wait()),), timeout=grace_s)
        if not self._is_shut_down:
            self._server.cancel_all_calls()
        await self._over.wait()

    def _begin(self) -> None:
        self._server.start()
        self._thread = threading.Thread(target=self._wait_for_bursts, name="grpc-core", daemon=True)
        self._thread.start()

    def _wait_for_bursts(self) -> None:
        """Runs in a thread until the queue has been shut down."""
        while not self._is_over:
            self._first = self._queue.poll()
            try:
                self._loop.call_soon_threadsafe(self._take_burst)
            except RuntimeError:  # the loop was closed without `stop`
                return
            self._turn.acquire()

    def _take_burst(self) -> None:
        """Handles an event and those behind it, and answers the messages that came."""
        poll, completed = self._queue.poll, cygrpc.CompletionType.operation_complete
        event, self._first = self._first, None
        for _ in range(_BURST):
            if event.completion_type != completed:
                break
            try:
                event.tag(event)
            except Exception:  # noqa: BLE001 - one call must not stop all others
                _log.exception("an event of gRPC could not be handled")
            event = poll(deadline=0)
        inbox, self._inbox = self._inbox, {}
        for method, calls in inbox.items():
            _answer(method, calls)
        if inbox and event.completion_type == cygrpc.CompletionType.queue_timeout:
            event = poll(deadline=0)  # answering took time
        if event.completion_type == cygrpc.CompletionType.queue_timeout and self._alone and not self._calls:
            # The next call is probably on its way, and nothing else is: waking the thread for it takes longer.
            event = poll(deadline=time.time() + _LINGER_S)
        if event.completion_type == completed:
            self._first = event
            self._loop.call_soon(self._take_burst)  # after what else the loop has to do
            return
        if event.completion_type == cygrpc.CompletionType.queue_shutdown:
            self._is_over = True
            self._server.destroy()
            self._over.set()
        self._turn.release()

    def _ask_for_a_call(self) -> None:
        self._server.request_call(self._queue, self._queue, self._arrived)

    def _arrived(self, event: Any) -> None:
        if not event.success:  # gRPC is shutting down
            return
        if not self._stopping:
            self._ask_for_a_call()
        method = self._methods.get(event.call_details.method)
        if method is None:
            _reject(event.call, *_METHOD_NOT_FOUND)
        elif len(self._calls) >= self._max_calls:
            _reject(event.call, *_TOO_MANY_CALLS)
        elif isinstance(method, Stream):
            stream = StreamCoreCall(event, method, self._loop, self._ended)
            self._calls.add(stream)
            stream.watch()
        else:
            call = UnaryCoreCall(event, method, self._loop, self._received, self._ended)
            self._calls.add(call)
            call.watch()
            call.receive()

    def _received(self, call: UnaryCoreCall, body: bytes) -> None:
        self._inbox.setdefault(call.method, []).append((call, body))

    def _ended(self, call: CoreCall) -> None:
        self._calls.discard(call)
        self._close_queue_at_the_end()

    def _shut_down(self, _: Any) -> None:
        self._is_shut_down = True
        self._close_queue_at_the_end()

    def _close_queue_at_the_end(self) -> None:
        if self._is_shut_down and not self._calls:
            self._queue.shutdown()


def _answer(method: Unary, received: list[tuple[UnaryCoreCall, bytes]]) -> None:
    received = [(call, body) for call, body in received if not call.is_ending]
    answers: list[bytes | None] = [None] * len(received)
    if len(received) > 1:
        try:
            answers = method.answer_together([body for _, body in received], [call for call, _ in received])
        except Exception:  # noqa: BLE001 - they are answered one by one, which finds out whose fault it is
            _log.exception("calls could not be answered together")
    for (call, body), answer in zip(received, answers, strict=True):
        if answer is None:
            call.answer(body)
        else:
            call.send(answer)


def _reject(call: Any, code: grpc.StatusCode, details: bytes) -> None:
    number, _ = code.value
    call.start_server_batch(
        (
            initial_metadata(),
            cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(None, number, details, NO_FLAGS),
        ),
        _forget,
    )


def _forget(_: Any) -> None:
    """The end of a call that nobody waits for."""
