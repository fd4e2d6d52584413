"""The one place that maps errors to gRPC statuses, counts requests, and turns them away at the gate."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc

from server.errors import InternalError, ServerError
from server.gate import Gate
from server.metrics import Metrics

_log = logging.getLogger(__name__)
_asked_model: ContextVar[str] = ContextVar("asked_model", default="")  # each request is answered in a task of its own


def note_model(name: str) -> None:
    """Tells, while a request is answered, which model it asks for, whether or not there is one."""
    _asked_model.set(name)


class RequestInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of one service; health and reflection answer whatever the server's state is.

    Args:
        service: full name of the service.
        gate: that requests pass.
        metrics: that count them.
    """

    def __init__(self, service: str, gate: Gate, metrics: Metrics) -> None:
        self._prefix = f"/{service}/"
        self._gate = gate
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Puts `_answer` around the method."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or not path.startswith(self._prefix):
            return handler
        method = path.removeprefix(self._prefix)
        behaviour: Any = handler.unary_unary

        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await self._answer(method, behaviour, request, context)

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)

    def _leave(self, _: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._gate.leave()

    async def _answer(
        self, method: str, behaviour: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Any:
        began = time.perf_counter()
        status = grpc.StatusCode.OK
        _asked_model.set("")
        try:
            self._gate.enter()
            # Not when this coroutine ends: the answer is still to be sent then, and a drain waits for that too.
            context.add_done_callback(self._leave)  # type: ignore[arg-type]  # its stub asks for a class of no library
            return await behaviour(request, context)
        except ServerError as error:
            status = error.code
            await context.abort(status, str(error))
        except asyncio.CancelledError:
            # gRPC cancels both when the caller leaves and when its deadline passes.
            remaining: float | None = context.time_remaining()
            late = remaining is not None and remaining <= 0
            status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except Exception:  # noqa: BLE001 - the last resort: logged here, and nothing of it is told
            status = grpc.StatusCode.INTERNAL
            _log.exception("%s failed", method)
            await context.abort(status, str(InternalError()))
        finally:
            self._metrics.request_answered(_asked_model.get(), method, status.name, time.perf_counter() - began)
