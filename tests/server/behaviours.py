"""Stand-ins for the methods of a service that read no message."""

from __future__ import annotations

from server import errors
from server.errors import InternalError, ServerError
from server.request import InFlightRequest
from server.rpc.handler import Behaviour

REFUSALS = [
    kind() if kind is InternalError else kind("the remedy")
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ServerError) and kind is not ServerError
]
INTERNAL_MESSAGE = "the server failed to answer this request; its log says why"


def failing(error: Exception) -> Behaviour:
    async def fail(_: bytes, request: InFlightRequest) -> bytes:
        request.model = "tiny"
        raise error

    return fail
