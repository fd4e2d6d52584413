"""The service grpc.reflection.v1alpha.ServerReflection, with which tools such as grpcurl find services and messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any, Final

from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as pb

from server.fronts.base import ClientLeft, Methods, Stream, StreamCall, messages
from server.rpc.handler import RequestHandler
from server.rpc.parsing import parse_small

SERVICE: Final[str] = reflection.SERVICE_NAME
METHOD: Final = "ServerReflectionInfo"


def reflection_methods(services: Iterable[str], handler: RequestHandler) -> Methods:
    """Returns all methods by name, for callers that `handler` admits.

    The answers come from grpc_reflection. Its own handlers would put tracebacks into the log for messages that cannot
    be parsed.
    """
    servicer = reflection.aio.ReflectionServicer([*services, SERVICE])

    async def answer(call: StreamCall) -> None:
        handler.admit_stream(METHOD, call)
        with suppress(ClientLeft):
            async for response in servicer.ServerReflectionInfo(_parsed(messages(call)), None):
                await call.write(response.SerializeToString())

    return {METHOD: Stream(answer)}


async def _parsed(bodies: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for body in bodies:
        yield parse_small(pb.ServerReflectionRequest, body)
