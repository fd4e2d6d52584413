from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from server.errors import QueueFull
from server.rpc.abort import abort


class Call:
    """A call that ends as gRPC's do."""

    def __init__(self, end: BaseException) -> None:
        self._end = end
        self.status: tuple[Any, ...] = ()

    async def abort(self, *status: Any) -> None:
        self.status = status
        raise self._end


async def test_the_caller_gets_the_status_of_the_error() -> None:
    call: Any = Call(grpc.aio.AbortError())
    with pytest.raises(grpc.aio.AbortError):
        await abort(call, QueueFull("full"), (("key", "value"),))
    assert call.status == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("key", "value"),))


async def test_a_caller_that_has_left_is_no_error() -> None:
    call: Any = Call(grpc.aio.InternalError("Failed to execute a batch"))
    with pytest.raises(asyncio.CancelledError):
        await abort(call, QueueFull("full"))
