"""What Ray's gRPC proxy needs to know of each service; `grpc_servicer_functions` of serve_config.yaml names these.

They run in the process of the proxy, once for each service.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import grpc

from server.ray_serve.methods import SERVICES
from server.ray_serve.timed_context import TimedContext


class _ProxyServer(Protocol):
    def add_generic_rpc_handlers(self, generic_rpc_handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        """Serves these, with Ray's own functions in place of those of the handlers."""


class ProxyHandler(grpc.GenericRpcHandler):
    """One gRPC service, which passes messages on as bytes and gives replicas the deadline of the caller.

    Ray replaces the functions in `_method_handlers`, an attribute of grpc's own handlers, with its own when this is
    added to its server. It must therefore be read at each call.

    Args:
        service: the full name of the service.
        methods: the names of its unary methods.
    """

    def __init__(self, service: str, methods: Iterable[str]) -> None:
        # No deserializer, so that the proxy parses nothing.
        self._method_handlers: dict[str, Any] = {
            f"/{service}/{method}": grpc.unary_unary_rpc_method_handler(_not_replaced) for method in methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Returns the handler of a method; None if it is of another service."""
        handler = self._method_handlers.get(handler_call_details.method)
        return None if handler is None else handler._replace(unary_unary=_timed(handler.unary_unary))


def add_generator(_: object, server: _ProxyServer) -> None:
    """Adds ganserve.v1.Generator."""
    _add("ganserve.v1.Generator", server)


def add_open_inference(_: object, server: _ProxyServer) -> None:
    """Adds inference.GRPCInferenceService."""
    _add("inference.GRPCInferenceService", server)


def add_health(_: object, server: _ProxyServer) -> None:
    """Adds grpc.health.v1.Health, which Ray does not have."""
    _add("grpc.health.v1.Health", server)


def _add(service: str, server: _ProxyServer) -> None:
    server.add_generic_rpc_handlers((ProxyHandler(service, SERVICES[service]),))


def _timed(unary_unary: Any) -> Any:
    async def with_deadline(body: bytes, context: Any) -> Any:
        return await unary_unary(body, TimedContext(context))

    return with_deadline


def _not_replaced(_: bytes, __: object) -> bytes:
    raise NotImplementedError("Ray's gRPC server did not replace this function: use the version in docs/ray.md")
