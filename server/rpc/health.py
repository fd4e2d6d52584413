"""The service grpc.health.v1.Health, whose watchers do not keep a server from stopping."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from grpc_health.v1 import health, health_pb2

_LAST_STATUS_S: Final = 0.1  # to write NOT_SERVING


class Health(health.aio.HealthServicer):
    """The status of the server and of its services. For the event loop only."""

    def __init__(self) -> None:
        super().__init__()
        self._ending = asyncio.Event()

    def end_watches(self) -> None:
        """Ends every call of Watch, after `enter_graceful_shutdown`; otherwise it lasts as long as its client."""
        self._ending.set()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802 - its name in gRPC
        """Sends the status of a service, and each new one, until the client leaves or the watches end."""
        watching = asyncio.ensure_future(super().Watch(request, context))
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait((watching, ending), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((watching,), timeout=_LAST_STATUS_S)
            if watching.done():
                await watching
        finally:
            ending.cancel()
            watching.cancel()
