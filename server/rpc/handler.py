"""The one place that maps errors to gRPC statuses, counts and logs requests, and turns them away at the gate.

It wraps the methods of every service and never looks into a message. It is not an interceptor because those cost time
per request.
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
from server.request import InFlightRequest

Behaviour = Callable[[bytes, InFlightRequest], Awaitable[bytes]]
"""A method of a service: takes a serialised request message, returns a serialised answer, raises `ServerError`."""

Context = grpc.aio.ServicerContext[Any, Any]

PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"  # gRPC's own retries wait this long
REQUEST_ID_KEY: Final = "x-request-id"
MAX_REQUEST_ID_LENGTH: Final = 128

_log = logging.getLogger(__name__)


class RequestHandler:
    """Answers requests through behaviours, on the event loop.

    Args:
        gate: that requests pass.
        metrics: that count them.
        access_log: gets one line per request; None for no log.
        max_unsent_bytes: bounds the answers that are made and not sent; further answers are refused. An answer that is
            the only one always passes.
    """

    def __init__(
        self, gate: Gate, metrics: Metrics, access_log: AccessLog | None = None, max_unsent_bytes: float = math.inf
    ) -> None:
        self._gate = gate
        self._metrics = metrics
        self._access_log = access_log
        self._max_unsent_bytes = max_unsent_bytes
        self._unsent_bytes = 0

    @property
    def unsent_bytes(self) -> int:
        """Bytes of all answers that are made and not sent."""
        return self._unsent_bytes

    def unary(self, method: str, behaviour: Behaviour, *, gated: bool = True) -> grpc.RpcMethodHandler[Any, Any]:
        """Returns the handler of a method with one request and one answer.

        Both are bytes: parsing large requests or serialising large answers would block the event loop, and nothing is
        parsed before the gate.

        Args:
            method: its name, without the service.
            behaviour: what it does.
            gated: whether requests are turned away while the server starts or drains, and a drain waits for them.
        """

        async def answer(body: bytes, context: Context) -> bytes:
            request = self.arrive(method, context)
            if gated:
                # Not when this coroutine returns: the answer is sent after that, and a drain waits for it.
                context.add_done_callback(lambda _: self.leave(request))  # type: ignore[arg-type]  # wrong stub
            try:
                return await self.attempt(behaviour, body, request, context, gated=gated)
            except ServerError as error:
                await context.abort(error.code, str(error), _trailing_metadata(error))

        return grpc.unary_unary_rpc_method_handler(answer, None, None)

    def arrive(self, method: str, context: Context) -> InFlightRequest:
        """Returns a new request: a unary one, or one message of a stream. `attempt` it, then `leave`."""
        began_s = time.perf_counter()
        remaining_s: float | None = context.time_remaining()  # None without a deadline, whatever gRPC's stub says
        deadline = math.inf if remaining_s is None else asyncio.get_running_loop().time() + remaining_s
        request = InFlightRequest(method, began_s, deadline)
        if self._access_log is not None:
            request.request_id = _sent_request_id(context) or secrets.token_hex(8)
        return request

    async def attempt(
        self, behaviour: Behaviour, body: bytes, request: InFlightRequest, context: Context, *, gated: bool = True
    ) -> bytes:
        """Answers a request through a behaviour, and counts and logs it.

        Raises:
            ServerError: it cannot be answered. An unforeseen error is logged and becomes an `InternalError`.
        """
        status = grpc.StatusCode.OK
        reason = message = ""
        try:
            if not gated:
                return await behaviour(body, request)
            self._gate.enter()
            request.inside = True
            answer = await behaviour(body, request)
            unsent_bytes = self._unsent_bytes + len(answer)
            if unsent_bytes > self._max_unsent_bytes and self._unsent_bytes:
                raise QueueFull(
                    f"too many answers wait to be read ({self._unsent_bytes} of {self._max_unsent_bytes} bytes,"
                    f" {len(answer)} more do not fit): try again after a pause"
                )
            self._unsent_bytes = unsent_bytes
            request.answer_bytes = len(answer)
            return answer
        except ServerError as error:
            status, reason, message = error.code, error.reason, str(error)
            if isinstance(error, InternalError):  # the cause is in the log already, but not the request
                _log.error("%s, see the lines above", _failure(request, context))
            raise
        except asyncio.CancelledError:
            # gRPC cancels both when the caller leaves and when its deadline passes.
            remaining_s: float | None = context.time_remaining()
            late = remaining_s is not None and remaining_s <= 0
            status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            reason = DeadlinePassed.reason if late else ""
            raise
        except Exception as unforeseen:  # the last resort: details go to the log, not to the caller
            _log.exception("%s", _failure(request, context))
            status, reason, message = InternalError.code, InternalError.reason, str(InternalError())
            # Not kept in a variable: in a cycle with its traceback it would keep the model alive for a long time.
            raise InternalError from unforeseen
        finally:
            if request.pinned is not None:
                request.pinned.leave()
                request.pinned = None
            self._metrics.request_answered(request, status.name, reason)
            if self._access_log is not None:
                self._access_log.write(request, context.peer(), status.name, message)

    def leave(self, request: InFlightRequest) -> None:
        """Counts a request and its answer out, once the answer is sent or given up. Safe to call twice."""
        self._unsent_bytes -= request.answer_bytes
        request.answer_bytes = 0
        if request.inside:
            request.inside = False
            self._gate.leave()


def _failure(request: InFlightRequest, context: Context) -> str:
    request_id = request.request_id or _sent_request_id(context)
    return f"{request.method} failed" + (f" (request {quote(request_id)})" if request_id else "")


def _sent_request_id(context: Context) -> str:
    """Returns the caller's id of the request; empty if there is none that is fit for a log."""
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
