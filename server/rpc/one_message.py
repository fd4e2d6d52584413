"""Receives the one message of a call, and answers a call that ends without one.

gRPC's own handlers for methods with one request message never answer such a call, and it stays open until its client
leaves. A handler for a stream of messages sees that there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import grpc

from server.errors import InvalidRequest
from server.rpc.abort import abort

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


def answering_empty_calls(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """Returns handlers that do the same, but also answer calls without a message."""
    return {method: _answering_empty_calls(handler) for method, handler in handlers.items()}


def _answering_empty_calls(handler: Handler) -> Handler:
    if handler.request_streaming:
        return handler
    behaviour: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary

    async def answer(_: object, context: Context) -> Any:
        try:
            message = await receive(context)
        except InvalidRequest as error:
            await abort(context, error)
        return await behaviour(message, context)

    wrap = grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    return wrap(answer, handler.request_deserializer, handler.response_serializer)
