"""Receives the one message of a call, and answers a call that ends without one.

gRPC's own handlers for methods with one request message never answer such a call, and it stays open until its client
leaves. A handler for a stream of messages sees that there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import grpc

from server.errors import InvalidRequest

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_CANCELLATION_S: Final = 0.01  # if the client left, gRPC first reports the end of its messages, then cancels


async def receive(context: Context) -> Any:
    """Returns the first message of a call.

    Raises:
        InvalidRequest: the call ended without a message.
    """
    message = await context.read()
    if message is grpc.aio.EOF:
        await asyncio.sleep(_CANCELLATION_S)
        raise InvalidRequest("the call ended without a message: send one, and look for a proxy that loses it")
    return message


class _Registry(Protocol):
    """What gRPC's generated code needs of a server."""

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler], /) -> None: ...

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler], /) -> None: ...


class AnsweringEmptyCalls:
    """Stands for a server while generated code adds a service to it, and changes the handlers with one request message.

    Args:
        server: gets the handlers.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server: _Registry = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Adds nothing: the same handlers follow by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Adds the methods of a service."""
        changed = {method: _answering_empty_calls(handler) for method, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, changed),))
        self._server.add_registered_method_handlers(service, changed)


def _answering_empty_calls(handler: Handler) -> Handler:
    """Returns a handler that does the same, but also answers a call without a message."""
    if handler.request_streaming:
        return handler
    behaviour: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary

    async def answer(_: object, context: Context) -> Any:
        try:
            message = await receive(context)
        except InvalidRequest as error:
            await context.abort(error.code, str(error))
        return await behaviour(message, context)

    wrap = grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    return wrap(answer, handler.request_deserializer, handler.response_serializer)
