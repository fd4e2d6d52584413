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
from server.call import Call
from server.errors import DeadlinePassed, InternalError, QueueFull, ServerError
from server.gate import Gate
from server.limits import quote
from server.metrics import Metrics

Behaviour = Callable[[bytes, Call], Awaitable[bytes]]
"""A method of a service: a serialised request and its call to a serialised answer; raises `ServerError`."""

Context = grpc.aio.ServicerContext[Any, Any]

PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"  # gRPC's own retries wait as long as it says
REQUEST_ID_KEY: Final = "x-request-id"
MAX_REQUEST_ID_LENGTH: Final = 128

_log = logging.getLogger(__name__)


class Answering:
    """Answers requests through behaviours, on the event loop.

    Args:
        gate: that requests pass.
        metrics: that count them.
        access_log: that has a line for each; None for no log.
    """

    def __init__(self, gate: Gate, metrics: Metrics, access_log: AccessLog | None = None) -> None:
        self._gate = gate
        self._metrics = metrics
        self._access_log = access_log

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
            try:
                return await self._attempt(method, behaviour, body, context, gated, until_sent=True)
            except ServerError as error:
                await context.abort(error.code, str(error), _trailing_metadata(error))

        return grpc.unary_unary_rpc_method_handler(answer, None, None)

    async def attempt(
        self, method: str, behaviour: Behaviour, body: bytes, context: Context, *, gated: bool = True
    ) -> bytes:
        """Answers one message of a stream; the arguments are those of `unary`, the request, and the stream's context.

        Raises:
            ServerError: it cannot be answered; an unforeseen error becomes an `InternalError`, and is logged.
        """
        return await self._attempt(method, behaviour, body, context, gated, until_sent=False)

    async def _attempt(
        self, method: str, behaviour: Behaviour, body: bytes, context: Context, gated: bool, *, until_sent: bool
    ) -> bytes:
        call = _begin(method, context)
        if self._access_log is not None:
            call.request_id = _sent_request_id(context) or secrets.token_hex(8)
        status = grpc.StatusCode.OK
        reason = message = ""
        inside = False
        try:
            if gated:
                self._gate.enter()
                if until_sent:
                    # Not when this coroutine ends: the answer is still to be sent then, and a drain waits for that too.
                    context.add_done_callback(self._leave)  # type: ignore[arg-type]  # stub asks for no library's class
                else:
                    inside = True
            return await behaviour(body, call)
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
            if inside:
                self._gate.leave()
            self._metrics.request_answered(call, status.name, reason)
            if self._access_log is not None:
                self._access_log.write(call, context.peer(), status.name, message)

    def _leave(self, _: Context) -> None:
        self._gate.leave()


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
