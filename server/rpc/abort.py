"""Ends a call with an error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

import grpc

from server.errors import ServerError


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], error: ServerError, metadata: Sequence[tuple[str, str]] = ()
) -> NoReturn:
    """Ends a call with the status of an error, and does not return.

    Raises:
        BaseException: by which gRPC knows that the call has ended.
    """
    try:
        await context.abort(error.code, str(error), tuple(metadata))
    except grpc.aio.InternalError:  # the client has left, which is no error, so gRPC must not log it
        raise asyncio.CancelledError from None
