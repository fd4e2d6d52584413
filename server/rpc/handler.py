"""The request handler: checks tokens, maps errors to gRPC statuses, counts and logs requests, refuses them at the gate.

It wraps every method of every service and never parses a message. It is not an interceptor, because interceptors cost
time per request.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import grpc

from server.access_log import AccessLog
from server.errors import DeadlinePassed, InternalError, QueueFull, ServerError
from server.fronts.base import Call, Stream, StreamCall, Unary, messages
from server.gate import Gate
from server.limits import quote
from server.metrics import Metrics
from server.request import InFlightRequest
from server.rpc.call_limit import CallLimit
from server.security.access import Access
from server.trace_context import sent_trace

if TYPE_CHECKING:
    from server.tracing import Tracer

Behaviour = Callable[[bytes, InFlightRequest], Awaitable[bytes]]
"""A method of a service: takes a serialised request message, returns a serialised answer, raises `ServerError`."""

Together = Callable[[Sequence[bytes], Sequence[InFlightRequest]], list[bytes | None]]
"""Answers what it can of the requests that came together, at once; None for those that a `Behaviour` has to answer."""

StreamBehaviour = Callable[[AsyncIterator[bytes], StreamCall], Awaitable[None]]
"""A method of a service that reads serialised request messages, and writes the answers to the call."""

REQUEST_ID_KEY: Final = "x-request-id"
MAX_REQUEST_ID_LENGTH: Final = 128

_CLOCK_SLACK_S: Final = 0.01  # between the clocks of a client and of the server

_log = logging.getLogger(__name__)


class RequestHandler:
    """Answers requests through behaviours, on the event loop.

    Args:
        gate: refuses requests while the server starts or drains.
        metrics: counts requests.
        access_log: gets one line per request; None for no log.
        max_unsent_bytes: limit for the answers that are ready but not sent; more answers are refused. A single answer
            always passes.
        max_calls: limit for the calls of gated methods that are in the server at once.
        access: decides which calls are allowed; None allows all.
        tracer: records one span per request; None for no spans.
    """

    def __init__(
        self,
        gate: Gate,
        metrics: Metrics,
        access_log: AccessLog | None = None,
        max_unsent_bytes: float = math.inf,
        max_calls: float = math.inf,
        access: Access | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.call_limit = CallLimit(max_calls)
        self._gate = gate
        self._metrics = metrics
        self._access_log = access_log
        self._max_unsent_bytes = max_unsent_bytes
        self._access = access
        self._tracer = tracer
        self._unsent_bytes = 0

    @property
    def unsent_bytes(self) -> int:
        """Bytes of all answers that are ready but not sent."""
        return self._unsent_bytes

    def unary(
        self, method: str, behaviour: Behaviour, *, gated: bool = True, together: Together | None = None
    ) -> Unary:
        """Returns a method with one request and one answer.

        Both are bytes: parsing large requests or serialising large answers would block the event loop, and nothing is
        parsed before the gate.

        Args:
            method: name of the method, without the service.
            behaviour: its implementation.
            gated: whether requests are refused while the server starts or drains, and a drain waits for them.
            together: a faster implementation for some of the requests that come together, if it is gated.
        """

        def admit(call: Call) -> None:
            self.check_access(method, call)
            if gated:
                self.call_limit.enter()
                call.add_done_callback(self.call_limit.leave)

        def refused(call: Call, error: ServerError) -> None:
            self._record(self.arrive(method, call), call, error.code, error.reason, str(error))

        async def answer(body: bytes, call: Call) -> bytes:
            request = self.arrive(method, call)
            if gated:
                # Not when this coroutine returns: the answer is sent after that, and a drain waits for it.
                call.add_done_callback(lambda: self.leave(request))
            return await self.attempt(behaviour, body, request, call, gated=gated)

        def answer_together(bodies: Sequence[bytes], calls: Sequence[Call]) -> list[bytes | None]:
            if together is None or not self._gate.is_open:
                return [None] * len(bodies)
            requests = [self.arrive(method, call) for call in calls]
            answers = together(bodies, requests)
            for index, (answer, call) in enumerate(zip(answers, calls, strict=True)):
                if answer is not None and not self._count_answered(requests[index], call, answer):
                    answers[index] = None
            return answers

        return Unary(answer, admit, refused, answer_together)

    def stream(self, method: str, behaviour: StreamBehaviour) -> Stream:
        """Returns a method with many requests and answers, whose messages the behaviour answers.

        Args:
            method: name of the method, without the service.
            behaviour: its implementation.
        """

        async def answer(call: StreamCall) -> None:
            self.admit_stream(method, call, counted=True)
            call.add_done_callback(self.call_limit.leave)
            await behaviour(messages(call), call)

        return Stream(answer)

    def check_access(self, method: str, call: Call) -> None:
        """Returns if the caller may call a method.

        Raises:
            ServerError: it may not.
        """
        if self._access is not None:  # reading metadata costs time
            self._access.check(method, call.invocation_metadata())

    def admit_stream(self, method: str, call: Call, *, counted: bool = False) -> None:
        """Returns if a stream may begin; otherwise counts and logs the refusal.

        Args:
            method: name of the method, without the service.
            call: the stream.
            counted: whether the stream counts as a call; `call_limit.leave` must follow.

        Raises:
            ServerError: it may not.
        """
        try:
            self.check_access(method, call)
            if counted:
                self.call_limit.enter()
        except ServerError as error:
            self._record(self.arrive(method, call), call, error.code, error.reason, str(error))
            raise

    def arrive(self, method: str, call: Call) -> InFlightRequest:
        """Returns a new request: a unary one, or one message of a stream. Call `attempt`, then `leave`."""
        began_s = time.perf_counter()
        remaining_s = call.time_remaining()
        deadline = math.inf if remaining_s is None else asyncio.get_running_loop().time() + remaining_s
        request = InFlightRequest(method, began_s, deadline)
        if self._access_log is not None or self._tracer is not None:
            request.request_id = _sent_request_id(call) or secrets.token_hex(8)
            request.trace = sent_trace(call.invocation_metadata())
        return request

    async def attempt(
        self,
        behaviour: Behaviour,
        body: bytes,
        request: InFlightRequest,
        call: Call,
        *,
        gated: bool = True,
        in_stream: bool = False,
    ) -> bytes:
        """Answers a request through a behaviour, and counts and logs it.

        Raises:
            ServerError: it cannot be answered. An unexpected error is logged and becomes an `InternalError`.
        """
        status = grpc.StatusCode.OK
        reason = message = ""
        try:
            if in_stream:  # tokens may be replaced while a stream is open
                self.check_access(request.method, call)
            if not gated:
                return await behaviour(body, request)
            self._gate.enter(in_stream=in_stream)
            request.inside = True
            answer = await behaviour(body, request)
            if not self._keep_unsent(request, answer):
                raise QueueFull(
                    f"too many answers wait to be read ({self._unsent_bytes} of {self._max_unsent_bytes} bytes,"
                    f" {len(answer)} more do not fit): try again after a pause"
                )
            return answer
        except ServerError as error:
            status, reason, message = error.code, error.reason, str(error)
            if isinstance(error, InternalError):  # the log holds the cause already, but not the request
                _log.error("%s, see the lines above", _failure(request, call))
            raise
        except asyncio.CancelledError:
            # gRPC cancels both when the client disconnects and when its deadline passes, which it may notice first.
            remaining_s = call.time_remaining()
            late = remaining_s is not None and remaining_s <= _CLOCK_SLACK_S
            status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            reason = DeadlinePassed.reason if late else ""
            raise
        except Exception as unexpected:  # details go to the log, not to the client
            _log.exception("%s", _failure(request, call))
            status, reason, message = InternalError.code, InternalError.reason, str(InternalError())
            # Not kept in a variable: in a cycle with its traceback it would keep the model alive for a long time.
            raise InternalError from unexpected
        finally:
            if request.pinned is not None:
                request.pinned.leave()
                request.pinned = None
            self._record(request, call, status, reason, message)

    def _count_answered(self, request: InFlightRequest, call: Call, answer: bytes) -> bool:
        """Does for an answer that was made at once what `attempt` does; False if it must not be sent."""
        if not self._keep_unsent(request, answer):
            return False
        self._gate.enter()
        request.inside = True
        call.add_done_callback(lambda: self.leave(request))
        self._record(request, call, grpc.StatusCode.OK, "", "")
        return True

    def _keep_unsent(self, request: InFlightRequest, answer: bytes) -> bool:
        """Counts the bytes of an answer until `leave`; returns False if there is no room for them."""
        unsent_bytes = self._unsent_bytes + len(answer)
        if unsent_bytes > self._max_unsent_bytes and self._unsent_bytes:
            return False
        self._unsent_bytes = unsent_bytes
        request.answer_bytes = len(answer)
        return True

    def leave(self, request: InFlightRequest) -> None:
        """Releases the gate and the bytes of the answer, once that is sent or abandoned. Safe to call twice."""
        self._unsent_bytes -= request.answer_bytes
        request.answer_bytes = 0
        if request.inside:
            request.inside = False
            self._gate.leave()

    def _record(self, request: InFlightRequest, call: Call, status: grpc.StatusCode, reason: str, message: str) -> None:
        self._metrics.request_answered(request, status.name, reason)
        if self._tracer is not None:
            self._tracer.record(request, status.name, message)
        if self._access_log is not None:
            self._access_log.write(request, call.peer(), status.name, message)


def _failure(request: InFlightRequest, call: Call) -> str:
    request_id = request.request_id or _sent_request_id(call)
    return f"{request.method} failed" + (f" (request {quote(request_id)})" if request_id else "")


def _sent_request_id(call: Call) -> str:
    """Returns the request id that the client sent; empty if it is missing or unsafe to log."""
    for key, value in call.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _is_sane(value):
            return value
    return ""


def _is_sane(request_id: str) -> bool:
    return 0 < len(request_id) <= MAX_REQUEST_ID_LENGTH and request_id.isascii() and request_id.isprintable()
