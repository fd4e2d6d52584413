"""A ganserve control plane in this process whose answers a test controls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

from ganserve.v1 import model_control_pb2 as pb
from ganserve.v1.model_control_pb2_grpc import ModelControlServicer, add_ModelControlServicer_to_server


def version(number: int = 3, model: str = "dcgan", **fields: Any) -> pb.ModelVersion:
    return pb.ModelVersion(**{"model": model, "version": number, "state": pb.VERSION_STATE_READY, **fields})


class FakeControl(ModelControlServicer):
    """Records requests. Responds with `failures` first, then with `versions`."""

    def __init__(self) -> None:
        self.versions = [version(2, state=pb.VERSION_STATE_UNAVAILABLE, reason="not loaded"), version(is_default=True)]
        self.failures: deque[tuple[grpc.StatusCode, str]] = deque()
        self.requests: list[Any] = []
        self.timeouts_s: list[float] = []
        self.address = ""

    def ListVersions(self, request: Any, context: grpc.ServicerContext) -> pb.ListVersionsResponse:  # noqa: N802  (gRPC's name)
        return pb.ListVersionsResponse(versions=self._answer(request, context))

    def LoadModel(self, request: Any, context: grpc.ServicerContext) -> pb.LoadModelResponse:  # noqa: N802  (gRPC's name)
        return pb.LoadModelResponse(versions=self._answer(request, context))

    def UnloadModel(self, request: Any, context: grpc.ServicerContext) -> pb.UnloadModelResponse:  # noqa: N802  (gRPC's name)
        self._answer(request, context)
        return pb.UnloadModelResponse()

    def RollbackModel(self, request: Any, context: grpc.ServicerContext) -> pb.RollbackModelResponse:  # noqa: N802  (gRPC's name)
        return pb.RollbackModelResponse(versions=self._answer(request, context))

    def _answer(self, request: Any, context: grpc.ServicerContext) -> list[pb.ModelVersion]:
        self.requests.append(request)
        self.timeouts_s.append(context.time_remaining())
        if self.failures:
            context.abort(*self.failures.popleft())
        return self.versions

    @contextmanager
    def serve(self) -> Iterator[FakeControl]:
        """Listens on a free port until the block ends."""
        with futures.ThreadPoolExecutor(max_workers=2) as workers:
            server = grpc.server(workers)
            add_ModelControlServicer_to_server(self, server)  # type: ignore[no-untyped-call]  # generated
            self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            server.start()
            try:
                yield self
            finally:
                server.stop(None).wait()
