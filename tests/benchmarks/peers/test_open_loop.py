from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from benchmarks.peers.open_loop import arrivals_s, stream
from benchmarks.peers.servers.floor_server import handlers


def test_arrivals_are_poisson_and_equal_for_every_server() -> None:
    due = arrivals_s(1000, 20)
    assert len(due) == pytest.approx(20_000, rel=0.03)
    assert due[-1] < 20
    gaps = np.diff(due)
    assert (gaps >= 0).all()
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)  # an even stream would have 0
    assert (arrivals_s(1000, 20) == due).all()


async def test_every_request_is_sent_and_timed() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers(latent_bytes=4, image_bytes=100),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        result = await asyncio.to_thread(stream, port, b"1234", 200, 0.2, 0.0)
    finally:
        await server.stop(None)
    assert result.sent == len(arrivals_s(200, 0.2)) > 10
    assert result.failed == 0
    assert 0 < result.p50_ms <= result.p99_ms
    assert result.answered_per_s > 0
    assert 0 < result.client_cores < 1


async def test_requests_that_fail_are_counted_and_not_timed() -> None:
    async def refuse(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return await context.abort(grpc.StatusCode.INTERNAL, "no")

    server = grpc.aio.server()
    method: Any = grpc.unary_unary_rpc_method_handler(refuse)
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        result = await asyncio.to_thread(stream, port, b"1234", 200, 0.1, 0.0)
    finally:
        await server.stop(None)
    assert result.failed == result.sent > 0
    assert np.isnan(result.p50_ms)
