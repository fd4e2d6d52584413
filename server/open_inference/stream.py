"""ModelStreamInfer: many requests on one stream, several in flight at once, answered in the order of their arrival."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from server.errors import ServerError
from server.fronts.base import ClientLeft, Stream, StreamCall
from server.open_inference.infer import STREAM_METHOD, ModelInfer
from server.open_inference.messages import stream_error
from server.rpc.handler import RequestHandler

MAX_IN_FLIGHT: Final = 64  # messages per stream; more stay in the transport, whose flow control slows the sender


def stream_method(model_infer: ModelInfer, handler: RequestHandler) -> Stream:
    """Returns the method ModelStreamInfer.

    A message that fails is answered with an error message, and the stream continues. When the client disconnects, its
    messages in flight are cancelled.
    """

    async def answer_one(body: bytes, call: StreamCall, earlier: asyncio.Event, written: asyncio.Event) -> None:
        request = handler.arrive(STREAM_METHOD, call)
        try:
            try:
                answer = await handler.attempt(model_infer.infer, body, request, call, in_stream=True)
            except ServerError as error:
                answer = stream_error(str(error), request.message_id)
            del body  # it may be large, and the client may be slow to read earlier answers
            await earlier.wait()
            with suppress(ClientLeft):
                await call.write(answer)
        finally:
            handler.leave(request)  # only now, because a drain waits until the answer is written
        written.set()

    async def answer_all(bodies: AsyncIterator[bytes], call: StreamCall) -> None:
        room = asyncio.Semaphore(MAX_IN_FLIGHT)
        earlier = asyncio.Event()  # set once the previous answer is written
        earlier.set()
        async with asyncio.TaskGroup() as tasks:
            async for body in bodies:
                await room.acquire()
                written = asyncio.Event()
                task = tasks.create_task(answer_one(body, call, earlier, written))
                task.add_done_callback(lambda _: room.release())
                earlier = written
                del body, task  # the next message may take long to arrive

    return handler.stream(STREAM_METHOD, answer_all)
