from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from server.errors import QueueFull
from server.fronts.aio import AioCall


class Context:
    """A context that ends calls as gRPC's do."""

    def __init__(self, end: BaseException) -> None:
        self._end = end
        self.status: tuple[Any, ...] = ()
        self.invocation_metadata = self.peer = self.time_remaining = None

    async def abort(self, *status: Any) -> None:
        self.status = status
        raise self._end


async def test_the_caller_gets_the_status_of_the_error() -> None:
    context: Any = Context(grpc.aio.AbortError())
    with pytest.raises(grpc.aio.AbortError):
        await AioCall(context).fail(QueueFull("full", 250))
    assert context.status == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("grpc-retry-pushback-ms", "250"),))


async def test_a_caller_that_has_left_is_no_error() -> None:
    context: Any = Context(grpc.aio.InternalError("Failed to execute a batch"))
    with pytest.raises(asyncio.CancelledError):
        await AioCall(context).fail(QueueFull("full"))
