"""The one place that maps errors to gRPC statuses, counts and logs requests, and turns them away at the gate.

It wraps the methods of any service, and looks at no message. It is no interceptor, as those cost time a request.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from server.access_log import AccessLog
from server.errors import DeadlinePassed, InternalError, QueueFull, ServerError
from server.gate import Gate
from server.limits import quote
from server.metrics import Metrics
from server.request import Call

Behaviour = Callable[[bytes, Call], Awaitable[bytes]]
"""A method of a service: a serialised request and its call to a serialised answer; raises `ServerError`."""

Context = grpc.aio.ServicerContext[Any, Any]

PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"  # gRPC's own retries wait as long as it says
REQUEST_ID_KEY: Final = "x-request-id"
MAX_REQUEST_ID_LENGTH: Final = 128

_log = logging.getLogger(__name__)


class Unsent:
    """Counts the bytes of answers that are made and not sent. Used on the event loop only.

    Args:
        max_bytes: the most at once; an answer that is the only one is always let in.
    """

    __slots__ = ("bytes", "max_bytes")

    def __init__(self, max_bytes: float = math.inf) -> None:
        self.bytes = 0
        self.max_bytes = max_bytes


class InFlightRequest:
    """How long one request is in the server: inside the gate, and its answer counted, until that is sent or given up.

    `end` must follow; as a context manager it does.
    """

    __slots__ = ("_answer_bytes", "_gate", "_inside", "_unsent")

    def __init__(self, gate: Gate, unsent: Unsent) -> None:
        self._gate = gate
        self._unsent = unsent
        self._inside = False
        self._answer_bytes = 0

    def begin(self) -> None:
        """Passes the gate.

        Raises:
            Unavailable: it is shut.
        """
        self._gate.enter()
        self._inside = True

    def count(self, answer_bytes: int) -> None:
        """Counts the answer in.

        Raises:
            QueueFull: too many bytes wait to be sent already.
        """
        unsent = self._unsent
        waiting = unsent.bytes + answer_bytes
        if waiting > unsent.max_bytes and unsent.bytes:
            raise QueueFull(
                f"too many answers wait to be read ({unsent.bytes} of {unsent.max_bytes} bytes, {answer_bytes} more do"
                " not fit): try again after a pause"
            )
        unsent.bytes = waiting
        self._answer_bytes = answer_bytes

    def end(self, _: object = None) -> None:
        """Counts the answer out, and leaves the gate."""
        self._unsent.bytes -= self._answer_bytes
        self._answer_bytes = 0
        if self._inside:
            self._inside = False
            self._gate.leave()

    def __enter__(self) -> InFlightRequest:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class RequestHandler:
    """Answers requests through behaviours, on the event loop.

    Args:
        gate: that requests pass.
        metrics: that count them.
        access_log: that has a line for each; None for no log.
        max_unsent_bytes: of all answers that are made and not sent; further ones are refused.
    """

    def __init__(
        self, gate: Gate, metrics: Metrics, access_log: AccessLog | None = None, max_unsent_bytes: float = math.inf
    ) -> None:
        self._gate = gate
        self._metrics = metrics
        self._access_log = access_log
        self._unsent = Unsent(max_unsent_bytes)

    @property
    def unsent_bytes(self) -> int:
        """Of all answers that are made and not sent."""
        return self._unsent.bytes

    def unary(self, method: str, behaviour: Behaviour, *, gated: bool = True) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method that takes one request and gives one answer, both as bytes.

        Bytes, as parsing large requests, or serialising large answers, would hold up the event loop, and nothing is to
        be parsed before the gate.

        Args:
            method: its name, without the service.
            behaviour: what it does.
            gated: whether requests are turned away while the server starts or drains, and a drain waits for them.
        """

        async def answer(body: bytes, context: Context) -> bytes:
            in_flight = None
            if gated:
                in_flight = InFlightRequest(self._gate, self._unsent)
                # Not when this coroutine ends: the answer is still to be sent then, and a drain waits for that too.
                context.add_done_callback(in_flight.end)  # type: ignore[arg-type]  # stub asks for no library's class
            try:
                return await self.attempt(method, behaviour, body, context, in_flight)
            except ServerError as error:
                await context.abort(error.code, str(error), _trailing_metadata(error))

        return grpc.unary_unary_rpc_method_handler(answer, None, None)

    def in_flight(self) -> InFlightRequest:
        """The in-flight request of one message of a stream, which is to end once the answer was written."""
        return InFlightRequest(self._gate, self._unsent)

    async def attempt(
        self, method: str, behaviour: Behaviour, body: bytes, context: Context, in_flight: InFlightRequest | None
    ) -> bytes:
        """Answers one request, or one message of a stream.

        Args:
            method: its name, without the service.
            behaviour: what it does.
            body: the request.
            context: of the request, or of the stream.
            in_flight: begun here, and ended by the caller once the answer is sent; None for a method without a gate.

        Raises:
            ServerError: it cannot be answered; an unforeseen error becomes an `InternalError`, and is logged.
        """
        call = _begin(method, context)
        if self._access_log is not None:
            call.request_id = _sent_request_id(context) or secrets.token_hex(8)
        status = grpc.StatusCode.OK
        reason = message = ""
        try:
            if in_flight is None:
                return await behaviour(body, call)
            in_flight.begin()
            answer = await behaviour(body, call)
            in_flight.count(len(answer))
            return answer
        except ServerError as error:
            status, reason, message = error.code, error.reason, str(error)
            if isinstance(error, InternalError):  # whoever raised it logged why, but not for whom
                _log.error("%s, as the lines above say", _failure(call, context))
            raise
        except asyncio.CancelledError:
            # gRPC cancels both when the caller leaves and when its deadline passes.
            remaining_s: float | None = context.time_remaining()
            late = remaining_s is not None and remaining_s <= 0
            status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            reason = DeadlinePassed.reason if late else ""
            raise
        except Exception as unforeseen:  # the last resort: logged here, and nothing of it is told
            _log.exception("%s", _failure(call, context))
            status, reason, message = InternalError.code, InternalError.reason, str(InternalError())
            # Not kept in a variable: in a cycle with its traceback, it would hold on to the model for a long time.
            raise InternalError from unforeseen
        finally:
            call.end()
            self._metrics.request_answered(call, status.name, reason)
            if self._access_log is not None:
                self._access_log.write(call, context.peer(), status.name, message)


def _begin(method: str, context: Context) -> Call:
    began_s = time.perf_counter()
    remaining_s: float | None = context.time_remaining()  # None without a deadline, whatever its stub says
    deadline = math.inf if remaining_s is None else asyncio.get_running_loop().time() + remaining_s
    return Call(method, began_s, remaining_s, deadline)


def _failure(call: Call, context: Context) -> str:
    request_id = call.request_id or _sent_request_id(context)
    return f"{call.method} failed" + (f" (request {quote(request_id)})" if request_id else "")


def _sent_request_id(context: Context) -> str:
    """The caller's id of the request; empty if there is none that is fit for a log."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _is_sane(value):
            return value
    return ""


def _is_sane(request_id: str) -> bool:
    return 0 < len(request_id) <= MAX_REQUEST_ID_LENGTH and request_id.isascii() and request_id.isprintable()


def _trailing_metadata(error: ServerError) -> tuple[tuple[str, str], ...]:
    if isinstance(error, QueueFull) and error.retry_after_ms is not None:
        return ((PUSHBACK_KEY, str(error.retry_after_ms)),)
    return ()
