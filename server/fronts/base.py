"""The seam between gRPC and the services: what a front offers to handlers, and what handlers offer to a front.

Handlers know calls and bytes. How calls arrive, and how answers leave, is the business of a front; see
docs/decisions/0030-two-fronts.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import grpc

from server.errors import InvalidRequest, ServerError

Metadata = Sequence[tuple[str, str | bytes]]

CANCELLATION_S: Final = 0.01
"""If a client leaves, gRPC first reports the end of its messages and then the cancellation, at most this much later."""


class ClientLeft(Exception):  # noqa: N818 - it is no error
    """The client has left, so a message cannot be sent. Its handler is cancelled soon, or has been."""


class Call(Protocol):
    """A call of a client. For the event loop only."""

    def invocation_metadata(self) -> Metadata:
        """Returns the metadata that the client sent; keys that end with -bin have bytes as values."""

    def peer(self) -> str:
        """Returns the address of the client, as gRPC spells it: ipv4:127.0.0.1:5."""

    def time_remaining(self) -> float | None:
        """Returns the seconds until the deadline, at least 0; None without a deadline."""

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Calls back once the call has ended: its answer is sent, or its client has left, and its handler is done."""


class StreamCall(Call, Protocol):
    """A call whose handler reads and writes messages itself."""

    async def read(self) -> bytes | None:
        """Returns the next message; None after the last one."""

    async def write(self, message: bytes) -> None:
        """Sends a message, and returns once the transport takes more; a slow client makes its handler wait.

        Raises:
            ClientLeft: nobody reads it.
        """


def _admit_all(_: Call) -> None:
    """Admits every call."""


def _count_nothing(_: Call, __: ServerError) -> None:
    """Records nothing."""


def _answer_none(bodies: Sequence[bytes], _: Sequence[Call]) -> list[bytes | None]:
    """Leaves every call to `answer`."""
    return [None] * len(bodies)


@dataclass(frozen=True)
class Unary:
    """A method with one message in each direction.

    A `ServerError` of `admit` or `answer` ends the call with its status.

    Attributes:
        answer: answers a message.
        admit: called when a call arrives, before its message is received.
        refused: told of a call that ends before its message reaches `answer`, except if the client has left.
        answer_together: offered the messages that came together, two or more, by fronts that know. It returns an answer
            for each that it can answer at once, and None for those that are left to `answer`.
    """

    answer: Callable[[bytes, Call], Coroutine[Any, Any, bytes]]
    admit: Callable[[Call], None] = _admit_all
    refused: Callable[[Call, ServerError], None] = _count_nothing
    answer_together: Callable[[Sequence[bytes], Sequence[Call]], list[bytes | None]] = _answer_none


@dataclass(frozen=True)
class Stream:
    """A method with any number of messages in each direction.

    Attributes:
        answer: reads and writes them. A `ServerError` ends the call with its status. It is cancelled if the client
            leaves or its deadline passes.
    """

    answer: Callable[[StreamCall], Coroutine[Any, Any, None]]


Methods: TypeAlias = "Mapping[str, Unary | Stream]"
"""Methods by their full path, for example /grpc.health.v1.Health/Check."""


class Front(Protocol):
    """A gRPC server for a table of methods, on the running event loop."""

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listens from `start` on, with TLS if there are credentials; returns the real port, or 1 for a Unix socket.

        Raises:
            RuntimeError: the address is not available.
        """

    async def start(self) -> None:
        """Accepts calls."""

    async def stop(self, grace_s: float | None) -> None:
        """Accepts no call from now on, and returns once all have ended. May be called again, with less grace.

        Args:
            grace_s: cancels calls that have not ended after this time; None cancels them now, infinity never.
        """


class MakeFront(Protocol):
    """The constructor of a front."""

    def __call__(
        self, methods: Methods, options: Sequence[tuple[str, int]], max_calls: int, *, alone: bool = True
    ) -> Front:
        """Returns a front without ports.

        Args:
            methods: what it serves.
            options: channel arguments of gRPC.
            max_calls: the most calls at once; further ones are refused with RESOURCE_EXHAUSTED, in no metric.
            alone: whether only this front brings calls to the event loop.
        """


def empty_call() -> InvalidRequest:
    """The error for a call of a unary method that ends without a message."""
    return InvalidRequest("the call ended without a message: send one, and look for a proxy that loses it")


async def messages(call: StreamCall) -> AsyncIterator[bytes]:
    """Yields the messages of a stream."""
    while (message := await call.read()) is not None:
        yield message
