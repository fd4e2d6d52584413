"""Turns the bytes of a request into its message, off the event loop if there are many. Knows no one message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Final, ParamSpec, TypeVar

from google.protobuf.message import DecodeError, Message

from server.config import MESSAGE_OVERHEAD_BYTES
from server.errors import InvalidRequest

# Work on fewer bytes than this is done sooner than a thread takes it over.
THREAD_WORTHY_BYTES: Final = 256 << 10

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Request = TypeVar("_Request", bound=Message)


class MessageParser:
    """Parses requests, and large ones one at a time.

    A hostile message fills up to sixteen times its size once it is parsed, until it is refused. Two would be parsed no
    sooner side by side, as the parser holds the interpreter's lock.
    """

    def __init__(self) -> None:
        self._large_one = asyncio.Lock()

    @asynccontextmanager
    async def parsed(self, kind: type[_Request], body: bytes) -> AsyncIterator[_Request]:
        """Gives the message in `body`; it must not be kept for longer.

        Raises:
            InvalidRequest: it is none of that kind.
        """
        large = is_thread_worthy(len(body))
        async with self._large_one if large else nullcontext():
            try:
                request = await in_thread_if(large, kind.FromString, body)
            except DecodeError as error:
                raise refuse_message(kind) from error
            yield request

    @asynccontextmanager
    async def parsed_small(self, kind: type[_Request], body: bytes) -> AsyncIterator[_Request]:
        """Like `parsed`, for requests that hold names alone: large ones are refused, as many would wait to be parsed.

        Raises:
            InvalidRequest: it is none of that kind, or too large for one.
        """
        if len(body) > MESSAGE_OVERHEAD_BYTES:
            raise InvalidRequest(
                f"the request has {len(body)} bytes, and a {kind.DESCRIPTOR.name} may have {MESSAGE_OVERHEAD_BYTES}:"
                " send names alone"
            )
        async with self.parsed(kind, body) as request:
            yield request


def refuse_message(kind: type[Message]) -> InvalidRequest:
    """The error for bytes that are no message of that kind."""
    return InvalidRequest(f"the request is no {kind.__name__}: send one as {kind.DESCRIPTOR.file.name} has it")


def is_thread_worthy(size_bytes: int) -> bool:
    """Whether work on so many bytes would hold up the event loop."""
    return size_bytes >= THREAD_WORTHY_BYTES


async def in_thread_if(
    slow: bool,
    function: Callable[_Arguments, _Result],
    *args: _Arguments.args,
    **kwargs: _Arguments.kwargs,
) -> _Result:
    """Calls a function, in a thread if it is slow, as `run_in_thread` does."""
    return await run_in_thread(function, *args, **kwargs) if slow else function(*args, **kwargs)


async def run_in_thread(
    function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    """Calls a function in a thread, and returns no sooner than that has done with it.

    Nor when the caller is cancelled: a thread cannot be interrupted, so the locks and the bytes that are held for what
    it does are to be held until then.
    """
    work = asyncio.create_task(asyncio.to_thread(function, *args, **kwargs))
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait((work,))  # which does not cancel it
        except asyncio.CancelledError:
            cancelled = True
    try:
        if cancelled:
            work.exception()  # nobody is to be told of it
            raise asyncio.CancelledError
        return work.result()
    finally:
        del work  # else an error and its traceback would hold on to each other, and to the request
