"""The service grpc.reflection.v1alpha.ServerReflection, with which tools such as grpcurl find services and messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as pb

from server.errors import InvalidRequest
from server.rpc.abort import abort
from server.rpc.handler import ClientLeft, Context, RequestHandler
from server.rpc.parsing import parse_small

SERVICE: Final[str] = reflection.SERVICE_NAME
METHOD: Final = "ServerReflectionInfo"


def reflection_handlers(services: Iterable[str], handler: RequestHandler) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Returns the handlers of all methods by name, for callers that `handler` admits.

    The answers come from grpc_reflection. Its own handlers would put tracebacks into the log for messages that cannot
    be parsed.
    """
    servicer = reflection.aio.ReflectionServicer([*services, SERVICE])

    async def answer(bodies: AsyncIterator[bytes], context: Context) -> None:
        await handler.admit_stream(METHOD, context)
        try:
            with suppress(ClientLeft):
                async for response in servicer.ServerReflectionInfo(_parsed(bodies), context):
                    await context.write(response)
        except InvalidRequest as error:
            await abort(context, error)

    serialize = pb.ServerReflectionResponse.SerializeToString
    return {METHOD: grpc.stream_stream_rpc_method_handler(answer, None, serialize)}


async def _parsed(bodies: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for body in bodies:
        yield parse_small(pb.ServerReflectionRequest, body)
