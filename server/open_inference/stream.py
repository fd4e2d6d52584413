"""ModelStreamInfer: many requests on one stream, several in work at once, answered in the order they came in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import grpc

from server.errors import ServerError
from server.open_inference.infer import ModelInfer, StreamedMessage
from server.open_inference.messages import stream_error
from server.rpc.handler import Context, RequestHandler

METHOD: Final = "ModelStreamInfer"
MAX_IN_WORK: Final = 64  # messages of one stream; further ones are left to the transport, which slows their sender down


def stream_handler(model_infer: ModelInfer, handler: RequestHandler) -> grpc.RpcMethodHandler[Any, Any]:
    """The handler of ModelStreamInfer.

    A message that cannot be answered gets an error message in its place, and the stream goes on. When the caller
    leaves, all that is in work for it is cancelled.
    """

    async def answer_one(body: bytes, context: Context, earlier: asyncio.Event, written: asyncio.Event) -> None:
        message = StreamedMessage()
        with handler.in_flight() as in_flight:  # until the answer is written: a drain waits for that, too
            try:
                infer = partial(model_infer.infer, message=message)
                answer = await handler.attempt(METHOD, infer, body, context, in_flight)
            except ServerError as error:
                answer = stream_error(str(error), message.request_id)
            del body  # it may be large, and the earlier answers may be long in being read
            await earlier.wait()
            await context.write(answer)
        written.set()

    async def answer_all(bodies: AsyncIterator[bytes], context: Context) -> None:
        room = asyncio.Semaphore(MAX_IN_WORK)
        earlier = asyncio.Event()  # whether the answer before was written
        earlier.set()
        async with asyncio.TaskGroup() as tasks:
            async for body in bodies:
                await room.acquire()
                written = asyncio.Event()
                task = tasks.create_task(answer_one(body, context, earlier, written))
                task.add_done_callback(lambda _: room.release())
                earlier = written
                del body, task  # the next one may be long in coming

    return grpc.stream_stream_rpc_method_handler(answer_all, None, None)
