"""Tests for server.ray_serve.proxy_handler, on a server of grpc.aio that replaces functions as Ray's server does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from server.ray_serve import proxy_handler
from server.ray_serve.methods import PATHS
from server.ray_serve.timed_context import TIMEOUT_KEY

GENERATE = PATHS["Generate"]


class FakeProxy:
    """Stands in for Ray's gRPC server: every call is answered by one function, which gets the path of the method.

    Ray's own is in ray/serve/_private/grpc_util.py.
    """

    def __init__(self) -> None:
        self.server = grpc.aio.server()
        self.calls: list[tuple[str, bytes, dict[str, Any]]] = []

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        handlers[0]._method_handlers = {
            path: handler._replace(unary_unary=self._entry(path), response_serializer=None)
            for path, handler in handlers[0]._method_handlers.items()
        }
        self.server.add_generic_rpc_handlers(handlers)

    def _entry(self, path: str) -> Callable[..., Any]:
        async def unary_unary(body: bytes, context: Any) -> bytes:
            self.calls.append((path, body, dict(context.invocation_metadata())))
            context.set_trailing_metadata((("peer", context.peer()),))
            return body[::-1]

        return unary_unary


@pytest.fixture
async def proxy() -> AsyncIterator[FakeProxy]:
    proxy = FakeProxy()
    for add in (proxy_handler.add_generator, proxy_handler.add_open_inference, proxy_handler.add_health):
        add(object(), proxy)
    yield proxy
    await proxy.server.stop(None)


@pytest.fixture
async def channel(proxy: FakeProxy) -> AsyncIterator[Any]:
    port = proxy.server.add_insecure_port("127.0.0.1:0")
    await proxy.server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


async def test_bytes_pass_as_they_are(proxy: FakeProxy, channel: Any) -> None:
    assert await channel.unary_unary(GENERATE)(b"\xff\x00no message") == b"\xff\x00no message"[::-1]
    [(path, body, _)] = proxy.calls
    assert (path, body) == (GENERATE, b"\xff\x00no message")


async def test_the_deadline_is_told(proxy: FakeProxy, channel: Any) -> None:
    await channel.unary_unary(GENERATE)(b"", timeout=50)
    [(_, _, metadata)] = proxy.calls
    assert 0 < int(metadata[TIMEOUT_KEY]) < 60_000  # gRPC rounds it


async def test_without_a_deadline_a_client_cannot_make_one_up(proxy: FakeProxy, channel: Any) -> None:
    await channel.unary_unary(GENERATE)(b"", metadata=((TIMEOUT_KEY, "0"), ("x-request-id", "mine")))
    [(_, _, metadata)] = proxy.calls
    assert TIMEOUT_KEY not in metadata
    assert metadata["x-request-id"] == "mine"


async def test_what_ray_sets_on_the_context_reaches_the_client(channel: Any) -> None:
    call = channel.unary_unary(GENERATE)(b"")
    assert dict(await call.trailing_metadata())["peer"].startswith("ipv4:127.0.0.1:")


@pytest.mark.parametrize("path", PATHS.values())
async def test_every_method_is_passed_on(channel: Any, path: str) -> None:
    assert await channel.unary_unary(path)(b"ab") == b"ba"


async def test_other_methods_are_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await channel.unary_unary("/ganserve.v1.Generator/Nothing")(b"")
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_configuration_names_every_service() -> None:
    named = {name for name in vars(proxy_handler) if name.startswith("add_")}
    assert named == {"add_generator", "add_open_inference", "add_health"}
