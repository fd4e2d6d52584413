"""ModelStreamInfer: many requests on one stream, several in work at once, answered in the order they came in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import grpc

from server.answering import Answering, Context
from server.errors import ServerError
from server.services.inference_messages import stream_error
from server.services.model_infer import ModelInfer, StreamedMessage

METHOD: Final = "ModelStreamInfer"
MAX_IN_WORK: Final = 64  # messages of one stream; further ones are left to the transport, which slows their sender down


def stream_handler(model_infer: ModelInfer, answering: Answering) -> grpc.RpcMethodHandler[Any, Any]:
    """The handler of ModelStreamInfer.

    A message that cannot be answered gets an error message in its place, and the stream goes on. When the caller
    leaves, all that is in work for it is cancelled.
    """

    async def answer_one(body: bytes, context: Context) -> bytes:
        message = StreamedMessage()
        try:
            return await answering.attempt(METHOD, partial(model_infer.infer, message=message), body, context)
        except ServerError as error:
            return stream_error(str(error), message.request_id)

    async def answer_all(bodies: AsyncIterator[bytes], context: Context) -> None:
        in_order: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        room = asyncio.Semaphore(MAX_IN_WORK)

        async def read(tasks: asyncio.TaskGroup) -> None:
            async for body in bodies:
                await room.acquire()
                in_order.put_nowait(tasks.create_task(answer_one(body, context)))
                del body  # it may be large, and the next one may be long in coming; so may the next task below
            in_order.put_nowait(None)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read(tasks))
            while (task := await in_order.get()) is not None:
                await context.write(await task)
                del task
                room.release()

    return grpc.stream_stream_rpc_method_handler(answer_all, None, None)
