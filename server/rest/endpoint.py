"""Answers the requests of one operation through the core."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from google.protobuf.message import Message

from server.errors import DeadlinePassed, InternalError, InvalidRequest, NotAllowed, ServerError
from server.fronts.base import Unary
from server.gate import Gate
from server.hosted_call import HostedCall
from server.limits import quote
from server.rest.operation import Operation, Write
from server.rest.protocol import STATE, KeepAliveProtocol
from server.rest.refusal import Refusal
from server.rest.reply import STALL_S, Reply, error_reply
from server.rest.sent import Sent
from server.rpc.byte_budget import ByteBudget
from server.rpc.parsing import THREAD_WORTHY_BYTES, run_in_thread
from server.security.access import CONTROL_METHODS

TIMEOUT_HEADER: Final = "x-request-timeout-ms"
DEFAULT_TIMEOUT_S: Final = 60.0  # of requests that say none; what proxies wait by default
MAX_TIMEOUT_MS: Final = 86_400_000
BODY_STALL_S: Final = 10.0  # longest time in which nothing of a body arrives
_MAX_QUERY_FIELDS: Final = 16
_FORM: Final = "multipart/form-data"
_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)


class Endpoint:
    """An ASGI application for one operation.

    Args:
        operation: what it answers.
        method: the method of the core that answers it.
        input_budget: bounds the bytes of all bodies that are being read.
        max_body_bytes: limit for one body.
        gate: tells whether clients should leave; answers then close their connections.
    """

    def __init__(
        self, operation: Operation, method: Unary, input_budget: ByteBudget, max_body_bytes: int, gate: Gate
    ) -> None:
        self._operation = operation
        self._method = method
        self._input_budget = input_budget
        self._max_body_bytes = max_body_bytes
        self._gate = gate

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answers one request. The work for a client that leaves is cancelled."""
        connection: KeepAliveProtocol = scope["state"][STATE]
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        host, port = scope["client"] or ("", 0)
        peer = f"http:[{host}]:{port}" if ":" in host else f"http:{host}:{port}"
        timeout_s, wrong_timeout = _timeout_s(headers)
        call = HostedCall(timeout_s, tuple(headers.items()), peer)
        task = asyncio.current_task()
        assert task is not None
        try:
            with connection.cancels(task):
                if wrong_timeout is not None:
                    self._method.refused(call, wrong_timeout)
                    reply = error_reply(wrong_timeout)
                else:
                    reply = await self._reply(scope, headers, receive, call)
                if not self._gate.is_ready:
                    reply = replace(reply, headers=[*reply.headers, ("connection", "close")])
                await reply.send(send)
                async with asyncio.timeout(STALL_S):
                    await connection.sent()
        except asyncio.CancelledError:
            if not connection.closed.is_set():
                raise
        except TimeoutError:  # the client does not read
            connection.abort()
        finally:
            call.end()

    async def _reply(self, scope: _Scope, headers: dict[str, str], receive: _Receive, call: HostedCall) -> Reply:
        try:
            async with asyncio.timeout(call.time_remaining()):
                try:
                    self._check_origin(headers)
                    self._method.admit(call)
                    message, write = await self._read(scope, headers, receive)
                except ServerError as error:
                    self._method.refused(call, error)
                    raise
                answer = await self._method.answer(message, call)
                del message
                if self._operation.is_slow or len(answer) >= THREAD_WORTHY_BYTES:
                    return await run_in_thread(write, answer)
                return write(answer)
        except ServerError as error:
            return error_reply(error)
        except TimeoutError:
            late = "the time of the request has passed: allow more (X-Request-Timeout-Ms), or ask for fewer rows"
            return error_reply(DeadlinePassed(late))
        except Exception:  # noqa: BLE001 - details go to the log, not to the client
            _log.exception("%s %s failed", self._operation.method, self._operation.path)
            return error_reply(InternalError())

    def _check_origin(self, headers: dict[str, str]) -> None:
        """Refuses web pages of elsewhere that would change what is served, through the browser of an operator."""
        if "origin" in headers and self._operation.rpc.rpartition("/")[2] in CONTROL_METHODS:
            raise NotAllowed("web pages may not load or unload models: call this from a program, without Origin")

    async def _read(self, scope: _Scope, headers: dict[str, str], receive: _Receive) -> tuple[bytes, Write]:
        """Returns the serialised request message, and what makes the response."""
        query = _query(scope["query_string"])
        sent = Sent(self._operation.values(scope["path_params"], query), headers)
        if not self._operation.takes:
            return _serialized(self._operation, sent)
        if headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a form is not read: send the file itself as the body of the request"
            )
        if headers.get("content-encoding", "identity") != "identity":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is compressed: send it without Content-Encoding")
        size_bytes = self._size_bytes(headers)
        with self._input_budget.reserve(size_bytes if size_bytes >= THREAD_WORTHY_BYTES else 0):
            sent = Sent(sent.values, headers, await self._body(receive))
            if len(sent.body) >= THREAD_WORTHY_BYTES:
                return await run_in_thread(_serialized, self._operation, sent)
            return _serialized(self._operation, sent)

    def _size_bytes(self, headers: dict[str, str]) -> int:
        """Returns the most bytes that the body may have."""
        length = headers.get("content-length")
        if length is None:
            return self._max_body_bytes if "transfer-encoding" in headers else 0
        size_bytes = int(length)  # h11 has checked it
        if size_bytes > self._max_body_bytes:
            raise self._too_large(f"{size_bytes} bytes")
        return size_bytes

    async def _body(self, receive: _Receive) -> bytes:
        body = bytearray()
        while True:
            try:
                async with asyncio.timeout(BODY_STALL_S) as stall:
                    received = await receive()
            except TimeoutError:
                if not stall.expired():
                    raise
                message = f"nothing of the body came in {BODY_STALL_S:g} s: send it without a pause"
                raise Refusal(HTTPStatus.REQUEST_TIMEOUT, message) from None
            if received["type"] == "http.disconnect":
                raise asyncio.CancelledError
            body += received.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise self._too_large(f"more than {self._max_body_bytes} bytes")
            if not received.get("more_body", False):
                return bytes(body)

    def _too_large(self, size: str) -> Refusal:
        return Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body has {size}, and may have {self._max_body_bytes}: send fewer rows or a smaller picture",
        )


def _serialized(operation: Operation, sent: Sent) -> tuple[bytes, Write]:
    message: Message
    try:
        message, write = operation.read(sent)
        return message.SerializeToString(), write
    except UnicodeEncodeError as error:  # half a pair of surrogates
        raise InvalidRequest("a text is not valid Unicode: send UTF-8") from error


def _query(text: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS
        )
    except ValueError as error:
        raise InvalidRequest(f"the query cannot be read ({error}): send name=value pairs in UTF-8") from error


def _timeout_s(headers: dict[str, str]) -> tuple[float, InvalidRequest | None]:
    """Returns the time that the client waits, or the error in what it sent."""
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return DEFAULT_TIMEOUT_S, None
    if text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) <= MAX_TIMEOUT_MS:
        return int(text) / 1000, None
    wrong = InvalidRequest(f"X-Request-Timeout-Ms is {quote(text)}: send whole milliseconds, at most {MAX_TIMEOUT_MS}")
    return DEFAULT_TIMEOUT_S, wrong
