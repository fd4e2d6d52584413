from __future__ import annotations

import asyncio
import select
import socket
from typing import Any

import grpc
import pytest

from benchmarks.peers.grpc_connection import ConnectionEnded, GrpcConnection
from benchmarks.peers.wire import MODEL_INFER

_TIMEOUT_S = 30


def _exchange(port: int, message: bytes, count: int) -> dict[int, int]:
    """Sends `count` requests at once; returns the bytes of each answer's body."""
    connection = GrpcConnection(port, MODEL_INFER, message)
    try:
        for number in range(count):
            connection.request(number)
        sizes: dict[int, int] = {}
        while connection.unanswered:
            connection.flush()
            writing = [connection.socket] if connection.has_more_to_send else []
            ready = select.select([connection.socket], writing, [], _TIMEOUT_S)
            assert any(ready), f"no answer to {connection.unanswered} requests"
            if ready[0]:
                sizes |= dict(connection.receive())
        return sizes
    finally:
        connection.close()


async def _ask(answer: Any, message: bytes, count: int, **options: Any) -> dict[int, int]:
    server = grpc.aio.server(**options)
    method: Any = grpc.unary_unary_rpc_method_handler(answer)
    handler = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        return await asyncio.to_thread(_exchange, port, message, count)
    finally:
        await server.stop(None)


async def test_every_request_arrives_whole_and_gets_its_answer() -> None:
    seen = []

    async def answer(request: bytes, _: object) -> bytes:
        seen.append(request)
        return bytes(50_000)  # several frames

    sizes = await _ask(answer, b"12345", count=40)
    assert seen == [b"12345"] * 40
    assert sizes == dict.fromkeys(range(40), 50_005)


async def test_more_bytes_than_the_windows_of_flow_control_pass_in_both_directions() -> None:
    async def answer(request: bytes, _: object) -> bytes:
        return request * 100

    sizes = await _ask(answer, bytes(16_000), count=60)  # 0.96 MB there, 96 MB back
    assert sizes == dict.fromkeys(range(60), 1_600_005)


async def test_the_limit_on_concurrent_streams_is_kept() -> None:
    now = most = 0

    async def answer(_: bytes, __: object) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return b"x"

    sizes = await _ask(answer, b"1", count=30, options=[("grpc.max_concurrent_streams", 3)])
    assert len(sizes) == 30
    assert most <= 4  # gRPC ends a stream a moment before the handler


async def test_an_error_has_no_bytes() -> None:
    async def refuse(_: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.INTERNAL, "no")

    assert await _ask(refuse, b"1", count=3) == {0: 0, 1: 0, 2: 0}


async def test_a_server_that_stops_ends_the_connection() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection = GrpcConnection(port, MODEL_INFER, b"1")
    try:
        connection.flush()
        await server.stop(None)

        def wait_for_the_end() -> None:
            while select.select([connection.socket], [], [], _TIMEOUT_S)[0]:
                connection.receive()

        with pytest.raises(ConnectionEnded):
            await asyncio.to_thread(wait_for_the_end)
    finally:
        connection.close()


def test_a_reset_of_an_ended_stream_changes_nothing() -> None:
    empty_data_that_ends_stream_1 = bytes((0, 0, 0, 0, 1, 0, 0, 0, 1))
    reset_of_stream_1 = bytes((0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = GrpcConnection(listener.getsockname()[1], MODEL_INFER, b"1")
        try:
            connection.request(7)
            with listener.accept()[0] as peer:
                peer.sendall(empty_data_that_ends_stream_1 + reset_of_stream_1 * 2)
                assert select.select([connection.socket], [], [], _TIMEOUT_S)[0]
                assert connection.receive() == [(7, 0)]
            assert connection.unanswered == 0
        finally:
            connection.close()


def test_a_message_that_needs_two_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="20000 bytes do not fit"):
        GrpcConnection(1, MODEL_INFER, bytes(20_000))
