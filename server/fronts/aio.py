"""The front on grpc.aio, gRPC's public interface for asyncio: works everywhere, and is the reference for others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import grpc

from server.errors import InternalError, ServerError
from server.fronts.base import CANCELLATION_S, ClientLeft, Metadata, Methods, Stream, Unary, empty_call

_Context = grpc.aio.ServicerContext[Any, Any]
_log = logging.getLogger(__name__)


class AioCall:
    """A call of grpc.aio.

    Args:
        context: what grpc.aio knows about it.
    """

    __slots__ = ("_context", "invocation_metadata", "peer", "time_remaining")

    invocation_metadata: Callable[[], Metadata]
    peer: Callable[[], str]
    time_remaining: Callable[[], float | None]

    def __init__(self, context: _Context) -> None:
        self._context = context
        self.invocation_metadata = context.invocation_metadata  # type: ignore[assignment]  # wrong stub
        self.peer = context.peer
        self.time_remaining = context.time_remaining

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Calls back once the call has ended."""
        self._context.add_done_callback(lambda _: callback())  # type: ignore[arg-type]  # wrong stub

    async def read(self) -> bytes | None:
        """Returns the next message; None after the last one."""
        message: Any = await self._context.read()
        return None if message is grpc.aio.EOF else message

    async def write(self, message: bytes) -> None:
        """Sends a message.

        Raises:
            ClientLeft: nobody reads it.
        """
        try:
            await self._context.write(message)
        except grpc.aio.InternalError as error:
            raise ClientLeft from error

    async def fail(self, error: ServerError) -> NoReturn:
        """Ends the call with the status of an error, and does not return.

        Raises:
            BaseException: by which gRPC knows that the call has ended.
        """
        try:
            await self._context.abort(error.code, str(error), error.trailing_metadata)
        except grpc.aio.InternalError:  # the client has left, which is no error, so gRPC must not log it
            raise asyncio.CancelledError from None


class AioFront:
    """Serves with grpc.aio.

    Args:
        methods: what it serves.
        options: channel arguments of gRPC.
        max_calls: the most calls at once.
        alone: whether only this front brings calls to the event loop; of no use here.
    """

    def __init__(
        self,
        methods: Methods,
        options: Sequence[tuple[str, int]],
        max_calls: int,
        *,
        alone: bool = True,
    ) -> None:
        self._server = grpc.aio.server(maximum_concurrent_rpcs=max_calls, options=list(options))
        self._server.add_generic_rpc_handlers((_Handlers(methods),))

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listens from `start` on; see `Front.add_port`."""
        if credentials is not None:
            return self._server.add_secure_port(address, credentials)
        return self._server.add_insecure_port(address)

    async def start(self) -> None:
        """Accepts calls."""
        await self._server.start()

    async def stop(self, grace_s: float | None) -> None:
        """Accepts no call from now on, and returns once all have ended; see `Front.stop`."""
        await self._server.stop(grace_s)


class _Handlers(grpc.GenericRpcHandler):
    """Finds the handler of a method by its path."""

    def __init__(self, methods: Methods) -> None:
        self._handlers = {
            path: _unary(method) if isinstance(method, Unary) else _stream(method) for path, method in methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handlers.get(handler_call_details.method)


def _unary(method: Unary) -> grpc.RpcMethodHandler[Any, Any]:
    async def answer(_: object, context: _Context) -> bytes:
        call = AioCall(context)
        try:
            try:
                method.admit(call)
                body = await _receive(call)
            except ServerError as error:
                method.refused(call, error)
                raise
            return await method.answer(body, call)
        except ServerError as error:
            await call.fail(error)
        except Exception:  # noqa: BLE001 - logged here; the client learns no details
            _log.exception("a call failed")
            await call.fail(InternalError())

    # A handler for one message would never answer a call without a message, which stays open until its client leaves.
    return grpc.stream_unary_rpc_method_handler(answer, None, None)


def _stream(method: Stream) -> grpc.RpcMethodHandler[Any, Any]:
    async def answer(_: object, context: _Context) -> None:
        call = AioCall(context)
        try:
            await method.answer(call)
        except ServerError as error:
            await call.fail(error)
        except Exception:  # noqa: BLE001 - logged here; the client learns no details
            _log.exception("a stream failed")
            await call.fail(InternalError())

    return grpc.stream_stream_rpc_method_handler(answer, None, None)


async def _receive(call: AioCall) -> bytes:
    body = await call.read()
    if body is None:
        await asyncio.sleep(CANCELLATION_S)
        raise empty_call()
    return body
