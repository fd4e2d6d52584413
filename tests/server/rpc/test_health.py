from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health_pb2

from server.rpc.health import Health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Context:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.written = asyncio.Event()

    async def write(self, response: health_pb2.HealthCheckResponse) -> None:
        self.statuses.append(response.status)
        self.written.set()


async def test_a_watch_ends_after_the_last_status() -> None:
    health, context = Health(), Context()
    await health.set("", SERVING)
    any_context: Any = context
    watch = asyncio.create_task(health.Watch(health_pb2.HealthCheckRequest(service=""), any_context))
    await context.written.wait()
    await health.enter_graceful_shutdown()
    health.end_watches()
    await watch
    assert context.statuses == [SERVING, NOT_SERVING]


async def test_a_watch_ends_with_its_client() -> None:
    health, context = Health(), Context()
    any_context: Any = context
    watch = asyncio.create_task(health.Watch(health_pb2.HealthCheckRequest(service=""), any_context))
    await context.written.wait()
    watch.cancel()
    await asyncio.wait((watch,))
    assert watch.cancelled()
