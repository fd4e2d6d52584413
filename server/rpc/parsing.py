"""Parses the bytes of a request into a message; large requests are parsed in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, ParamSpec, TypeVar

from google.protobuf.message import DecodeError, Message

from server.config import MESSAGE_OVERHEAD_BYTES
from server.errors import InvalidRequest

THREAD_WORTHY_BYTES: Final = 256 << 10  # below this, the work itself takes less time than handing it to a thread

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Message = TypeVar("_Message", bound=Message)


class MessageParser:
    """Parses requests, large ones one at a time.

    A hostile message takes up to sixteen times its size in memory once it is parsed. Parsing two at once would not be
    faster, because the parser holds the GIL.
    """

    def __init__(self) -> None:
        self._large_one = asyncio.Lock()

    @asynccontextmanager
    async def parsed(self, kind: type[_Message], body: bytes) -> AsyncIterator[_Message]:
        """Yields the message in `body`; do not keep it after the context exits.

        Raises:
            InvalidRequest: the bytes are not a message of that kind.
        """
        if len(body) < THREAD_WORTHY_BYTES:
            yield parse(kind, body)
            return
        async with self._large_one:
            yield await run_in_thread(parse, kind, body)


def parse(kind: type[_Message], body: bytes) -> _Message:
    """Parses a message; slow if it is large.

    Raises:
        InvalidRequest: the bytes are not a message of that kind.
    """
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise InvalidRequest(
            f"the request is not a {kind.__name__}: send one as {kind.DESCRIPTOR.file.name} defines it"
        ) from error


def parse_small(kind: type[_Message], body: bytes) -> _Message:
    """Parses a message that holds only names; refuses a large one, because no budget bounds these messages.

    Raises:
        InvalidRequest: the bytes are not a message of that kind, or too large for one.
    """
    if len(body) > MESSAGE_OVERHEAD_BYTES:
        raise InvalidRequest(
            f"the request has {len(body)} bytes, and a {kind.DESCRIPTOR.name} may have {MESSAGE_OVERHEAD_BYTES}:"
            " send names only"
        )
    return parse(kind, body)


async def run_in_thread(
    function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    """Calls a function in a thread, and returns only when the function has returned, even if the caller is cancelled.

    A thread cannot be interrupted, so the locks and bytes held for its work must be held until then.
    """
    work = asyncio.create_task(asyncio.to_thread(function, *args, **kwargs))
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait((work,))  # unlike awaiting the task, this does not cancel it
        except asyncio.CancelledError:
            cancelled = True
    try:
        if cancelled:
            work.exception()  # retrieved, so that asyncio does not log it
            raise asyncio.CancelledError
        return work.result()
    finally:
        del work  # otherwise a reference cycle of an error and its traceback keeps the request alive
