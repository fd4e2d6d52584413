"""One server, or several alike: drives the steps of calls in the caller's thread. Decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc

from client.errors import GanClientError, InvalidRequest, from_rpc_error
from client.sdk.addresses import DEFAULT_ADDRESS, Addresses
from client.sdk.catalog import Catalog
from client.sdk.channel import DEFAULT_TIMEOUT_S, Endpoint, Stubs, endpoint_of
from client.sdk.security import TlsOptions
from client.sdk.steps import Emit, Method, Pause, Send, Steps, Wait, emitted

CLOSED: Final = "this client is closed; make a new one"

_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class _Unsent:
    """A request that is sent when it is waited for: gRPC's blocking call needs no thread beside the caller's."""

    call: Callable[..., Any]
    request: Any


class Connection:
    """A connection to one server, or to several that serve the same; safe to share between threads.

    Args:
        address: HOST:PORT, [IPV6]:PORT, dns:///HOST:PORT or unix:PATH; or several IP:PORT, which take turns.
        timeout_s: The deadline of each request, retries included, in seconds.
        channels: How many connections to open, and how many requests of one call may be on their way.
        tls: None: no TLS.
        token: Sent with each request, as a bearer token; needs TLS, except on this machine.

    Raises:
        InvalidRequest: an argument is out of range.
    """

    def __init__(
        self,
        address: Addresses = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        channels: int = 1,
        tls: TlsOptions | None = None,
        token: str | None = None,
    ) -> None:
        self.endpoint = endpoint_of(address, timeout_s=timeout_s, channels=channels, tls=tls, token=token)
        self.catalog = Catalog(self.endpoint.target.text)
        self._channels = self.endpoint.open()
        self._stubs = Stubs(self._channels)
        self._closed = False

    def run(
        self, steps: Steps[_Value, Any], *, sleep: Callable[[float], object] = time.sleep
    ) -> Generator[_Value, None, None]:
        """Performs steps, and yields what they emit; requests that are left at the end are cancelled.

        Args:
            steps: what to do.
            sleep: waits so many seconds.

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
                    result = sleep(step.pause_s) if isinstance(step, Pause) else self._perform(step, in_flight)
                except GanClientError as failure:
                    error = failure
        finally:
            steps.close()
            for call in in_flight:
                call.cancel()

    def call(self, steps: Steps[Any, _Value]) -> _Value:
        """Performs steps to their end; returns their result.

        Raises:
            GanClientError: a step failed, and the steps did not go on.
        """
        [result] = self.run(emitted(steps))
        return result

    def close(self) -> None:
        """Closes the connection; calls after this raise."""
        self._closed = True
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _perform(self, step: Send | Wait, in_flight: set[Any]) -> Any:
        try:
            if isinstance(step, Send):
                return self._send(step.method, step.request, in_flight)
            answer = self._answer(step.handle)
        except GanClientError:
            if isinstance(step, Wait):
                in_flight.discard(step.handle)  # it has ended too, and would keep what it holds
            raise
        except ValueError as error:
            if self._closed:  # by another thread, between two steps of this one
                raise InvalidRequest(CLOSED) from error
            raise
        in_flight.discard(step.handle)
        return answer

    def _send(self, method: Method, request: Any, in_flight: set[Any]) -> Any:
        if self._closed:
            raise InvalidRequest(CLOSED)
        call = self._stubs.next(method)
        if self.endpoint.channels == 1:
            return _Unsent(call, request)
        future = call.future(request, timeout=self.endpoint.timeout_s, metadata=self.endpoint.metadata)
        in_flight.add(future)
        return future

    def _answer(self, handle: Any) -> Any:
        try:
            if isinstance(handle, _Unsent):
                return handle.call(handle.request, timeout=self.endpoint.timeout_s, metadata=self.endpoint.metadata)
            return handle.result()
        except grpc.RpcError as error:
            if self._closed and error.code() is grpc.StatusCode.CANCELLED:  # by another thread, not by the server
                raise InvalidRequest(CLOSED) from error
            raise from_rpc_error(error, self.endpoint.target.text, self.endpoint.timeout_s) from error


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
