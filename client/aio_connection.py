"""One server, or several alike: drives the steps of calls on an event loop. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import grpc

from client.catalog import Catalog
from client.channel import Endpoint
from client.connection import CLOSED
from client.errors import GanClientError, InvalidRequest, from_rpc_error
from client.steps import Emit, Pause, Send, Steps, Wait, emitted
from client.stubs import Stubs

_Value = TypeVar("_Value")


class AsyncConnection:
    """Connects at the first call, and belongs to the event loop that this runs on.

    Args:
        endpoint: where to.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.catalog = Catalog(endpoint.target.text)
        self._channels: list[grpc.aio.Channel] = []
        self._stubs: Stubs | None = None
        self._closed = False

    async def run(self, steps: Steps[_Value, Any]) -> AsyncGenerator[_Value, None]:
        """Performs steps, and yields what they emit; requests that are left at the end are cancelled.

        Raises:
            GanClientError: a step failed, and the steps did not go on.
        """
        in_flight: set[Any] = set()
        result: Any = None
        error: GanClientError | None = None
        try:
            while True:
                try:
                    step = steps.send(result) if error is None else steps.throw(error)
                except StopIteration:
                    return
                result = error = None
                if isinstance(step, Emit):
                    yield step.value
                    continue
                try:
                    result = await self._perform(step, in_flight)
                except GanClientError as failure:
                    error = failure
        finally:
            steps.close()
            for call in in_flight:
                call.cancel()

    async def call(self, steps: Steps[Any, _Value]) -> _Value:
        """Performs steps to their end; returns their result.

        Raises:
            GanClientError: a step failed, and the steps did not go on.
        """
        [result] = [value async for value in self.run(emitted(steps))]
        return result

    async def close(self) -> None:
        """Closes the connection; calls after this raise."""
        self._closed = True
        for channel in self._channels:
            await channel.close()

    async def _perform(self, step: Send | Wait | Pause, in_flight: set[Any]) -> Any:
        match step:
            case Send():
                call = self._methods().next(step.method)(
                    step.request, timeout=self.endpoint.timeout_s, metadata=self.endpoint.metadata
                )
                in_flight.add(call)
                return call
            case Wait():
                try:
                    answer = await self._answer(step.handle)
                except GanClientError:
                    in_flight.discard(step.handle)  # it has ended too, and would keep its request
                    raise
                in_flight.discard(step.handle)
                return answer
            case Pause():
                return await asyncio.sleep(step.pause_s)

    async def _answer(self, call: Any) -> Any:
        try:
            return await call
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.endpoint.target.text, self.endpoint.timeout_s) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):  # only the request was cancelled, by `close`
                raise InvalidRequest(CLOSED) from error
            raise

    def _methods(self) -> Stubs:
        if self._closed:
            raise InvalidRequest(CLOSED)
        if self._stubs is None:
            self._channels = self.endpoint.open_async()
            self._stubs = Stubs(self._channels)
        return self._stubs
