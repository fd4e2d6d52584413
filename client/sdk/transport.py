"""Performs the steps of calls: in the caller's thread or on an event loop, on gRPC channels."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import grpc

from client.errors import GanClientError, InvalidRequest
from client.sdk.addresses import DEFAULT_ADDRESS, Addresses
from client.sdk.catalog import Catalog
from client.sdk.channel import DEFAULT_TIMEOUT_S, Stubs, endpoint_of, is_any_ready
from client.sdk.failures import failure_of
from client.sdk.security import TlsOptions
from client.sdk.steps import Emit, Pause, Send, Steps, Wait, emitted

CLOSED: Final = "this client is closed; make a new one"
_STATE_TIMEOUT_S: Final = 1.0

_Value = TypeVar("_Value")


class _Run(Generic[_Value]):
    """Steps in progress: feeds back results and errors, and cancels the requests that the steps leave unanswered.

    Attributes:
        result: The result of the current step, set by the driver.
    """

    def __init__(self, steps: Steps[_Value, Any]) -> None:
        self.result: Any = None
        self._error: GanClientError | None = None
        self._steps = steps
        self._in_flight: set[Any] = set()

    def next(self) -> Send | Wait | Pause | Emit[_Value] | None:
        """The next step, or None at the end."""
        result, error = self.result, self._error
        self.result = self._error = None
        try:
            return self._steps.send(result) if error is None else self._steps.throw(error)
        except StopIteration:
            return None

    @contextmanager
    def performing(self, step: Send | Wait | Pause) -> Iterator[None]:
        """Passes an error of `step` on to the steps, and tracks which requests are in flight."""
        try:
            yield
        except GanClientError as error:
            self._error = error
        else:
            if isinstance(step, Send):
                self._in_flight.add(self.result)
        if isinstance(step, Wait):
            self._in_flight.discard(step.handle)

    def close(self) -> None:
        """Ends the steps and cancels their requests."""
        self._steps.close()
        for call in self._in_flight:
            call.cancel()


class BlockingConnection(ABC):
    """Performs steps in the thread of the caller.

    Attributes:
        catalog: The models that are served.
        timeout_s: The deadline of each request, in seconds.
        ahead: How many requests of a large count may be in flight.
    """

    catalog: Catalog
    timeout_s: float
    ahead: int

    def run(
        self, steps: Steps[_Value, Any], *, sleep: Callable[[float], object] = time.sleep
    ) -> Generator[_Value, None, None]:
        """Performs steps and yields what they emit; cancels requests still in flight at the end.

        Args:
            steps: The steps of a call.
            sleep: Sleeps for a number of seconds.

        Raises:
            GanClientError: A step failed, and the steps did not handle it.
        """
        run = _Run(steps)
        try:
            while (step := run.next()) is not None:
                if isinstance(step, Emit):
                    yield step.value
                    continue
                with run.performing(step):
                    if isinstance(step, Pause):
                        sleep(step.pause_s)
                    else:
                        run.result = self._perform(step)
        finally:
            run.close()

    def call(self, steps: Steps[Any, _Value]) -> _Value:
        """Performs all steps and returns their result.

        Raises:
            GanClientError: A step failed, and the steps did not handle it.
        """
        [result] = self.run(emitted(steps))
        return result

    @abstractmethod
    def close(self) -> None:
        """Closes the connection; later calls raise."""

    @abstractmethod
    def _perform(self, step: Send | Wait) -> Any:
        """Sends a request and returns its handle, which can be cancelled; or waits for a handle's response.

        Raises:
            GanClientError: The request failed.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _ServerConnection(ABC):
    """What both kinds of connection to a server share; arguments and errors are those of `endpoint_of`."""

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
        self.timeout_s, self.ahead = self.endpoint.timeout_s, self.endpoint.channels
        self._options = {"timeout": timeout_s, "metadata": self.endpoint.metadata}  # of each request
        self._closed = False
        self._prepare()

    @abstractmethod
    def _prepare(self) -> None:
        """Opens the channels, or prepares to open them at the first call."""


@dataclass(frozen=True, eq=False)
class _Unsent:
    """A request that is sent when it is waited for, as a blocking call, which needs no second thread."""

    call: Callable[..., Any]
    request: Any

    def cancel(self) -> None:
        """Does nothing: it is not sent yet, or was answered."""


class Connection(_ServerConnection, BlockingConnection):
    """A blocking connection to one server, or to several that serve the same; safe to share between threads."""

    def _prepare(self) -> None:
        self._channels = self.endpoint.open()
        self._stubs = Stubs(self._channels)

    def close(self) -> None:
        """Closes the connection; later calls raise."""
        self._closed = True
        for channel in self._channels:
            channel.close()

    def _perform(self, step: Send | Wait) -> Any:
        try:
            if isinstance(step, Send):
                if self._closed:
                    raise InvalidRequest(CLOSED)
                method = self._stubs.next(step.method)
                if self.endpoint.channels == 1:
                    return _Unsent(method, step.request)
                return method.future(step.request, **self._options)
            if isinstance(step.handle, _Unsent):
                return step.handle.call(step.handle.request, **self._options)
            return step.handle.result()
        except grpc.RpcError as error:
            if self._closed and error.code() is grpc.StatusCode.CANCELLED:  # by another thread, not by the server
                raise InvalidRequest(CLOSED) from error
            is_late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            is_connected = not is_late or any(map(_is_connected, self._channels))
            raise failure_of(error, self.endpoint, is_connected=is_connected) from error
        except ValueError as error:
            if self._closed:  # by another thread, just before the request
                raise InvalidRequest(CLOSED) from error
            raise


def _is_connected(channel: grpc.Channel) -> bool:
    told = threading.Event()
    states: list[grpc.ChannelConnectivity] = []

    def tell(state: grpc.ChannelConnectivity) -> None:
        states.append(state)
        told.set()

    try:
        channel.subscribe(tell)  # tells the present state at once, from a thread
        told.wait(_STATE_TIMEOUT_S)
        channel.unsubscribe(tell)
    except ValueError:  # closed by another thread
        return False
    return not states or states[0] is grpc.ChannelConnectivity.READY  # most are, should the machine be too slow to tell


class AsyncConnection(_ServerConnection):
    """Like `Connection`, but for an event loop: that of its first call, which connects."""

    def _prepare(self) -> None:
        self._channels: list[grpc.aio.Channel] = []
        self._stubs: Stubs | None = None

    async def run(self, steps: Steps[_Value, Any]) -> AsyncGenerator[_Value, None]:
        """Performs steps and yields what they emit; cancels requests still in flight at the end.

        Raises:
            GanClientError: A step failed, and the steps did not handle it.
        """
        run = _Run(steps)
        try:
            while (step := run.next()) is not None:
                if isinstance(step, Emit):
                    yield step.value
                    continue
                with run.performing(step):
                    if isinstance(step, Send):
                        run.result = self._send(step)
                    elif isinstance(step, Wait):
                        run.result = await self._answer(step.handle)
                    else:
                        await asyncio.sleep(step.pause_s)
        finally:
            run.close()

    async def call(self, steps: Steps[Any, _Value]) -> _Value:
        """Performs all steps and returns their result.

        Raises:
            GanClientError: A step failed, and the steps did not handle it.
        """
        [result] = [value async for value in self.run(emitted(steps))]
        return result

    async def close(self) -> None:
        """Closes the connection; later calls raise."""
        self._closed = True
        for channel in self._channels:
            await channel.close()

    def _send(self, step: Send) -> Any:
        if self._closed:
            raise InvalidRequest(CLOSED)
        if self._stubs is None:
            self._channels = self.endpoint.open_async()
            self._stubs = Stubs(self._channels)
        return self._stubs.next(step.method)(step.request, **self._options)

    async def _answer(self, call: Any) -> Any:
        try:
            return await call
        except grpc.RpcError as error:
            raise failure_of(error, self.endpoint, is_connected=is_any_ready(self._channels)) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):  # `close` cancelled the request, not the task
                raise InvalidRequest(CLOSED) from error
            raise
