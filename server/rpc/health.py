"""The service grpc.health.v1.Health, for probes and load balancers.

grpc_health has one too, but its Watch goes silent for all watchers of a service once one of them leaves, and a watcher
that does not read can stop the server from changing its status.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from grpc_health.v1 import health_pb2 as pb

from server.errors import NotServed
from server.fronts.base import CANCELLATION_S, Call, ClientLeft, Methods, Stream, StreamCall, Unary, empty_call
from server.rpc.parsing import parse_small

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["Health"].full_name


class Health:
    """The status of the server, under the empty name, and of its services. For the event loop only.

    It needs no token, so that probes work; it tells nothing except whether requests are accepted.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {}
        self._changed = asyncio.Event()  # replaced at each change
        self._shutting_down = self._ending = False

    async def set(self, service: str, status: Any) -> None:
        """Sets the status of a service, unless the server is shutting down."""
        if not self._shutting_down:
            self._set({service: status})

    async def enter_graceful_shutdown(self) -> None:
        """Sets every status to NOT_SERVING, for good."""
        self._shutting_down = True
        self._set(dict.fromkeys(self._statuses, pb.HealthCheckResponse.NOT_SERVING))

    def end_watches(self) -> None:
        """Ends every call of Watch once it has sent the last status; otherwise it lasts as long as its client."""
        self._ending = True
        self._set({})

    def methods(self) -> Methods:
        """Returns all methods by name."""
        return {"Check": Unary(self._check), "Watch": Stream(self._watch)}

    def _set(self, statuses: dict[str, Any]) -> None:
        self._statuses.update(statuses)
        self._changed.set()
        self._changed = asyncio.Event()

    async def _check(self, body: bytes, _: Call) -> bytes:
        status = self._statuses.get(parse_small(pb.HealthCheckRequest, body).service)
        if status is None:
            raise NotServed("this server has no service of this name: leave it empty")
        answer: bytes = pb.HealthCheckResponse(status=status).SerializeToString()
        return answer

    async def _watch(self, call: StreamCall) -> None:
        if (body := await call.read()) is None:
            await asyncio.sleep(CANCELLATION_S)
            raise empty_call()
        service = parse_small(pb.HealthCheckRequest, body).service
        last = None
        with suppress(ClientLeft):
            while True:
                changed = self._changed
                status = self._statuses.get(service, pb.HealthCheckResponse.SERVICE_UNKNOWN)
                if status != last:
                    await call.write(pb.HealthCheckResponse(status=status).SerializeToString())
                    last = status
                if self._ending:
                    return
                await changed.wait()
