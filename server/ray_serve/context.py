"""What a replica gets of a gRPC call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import grpc

from server.fronts.base import Metadata


class Context(Protocol):
    """The part of `ray.serve.grpc_util.RayServegRPCContext` that replicas use."""

    def invocation_metadata(self) -> Metadata:
        """Returns the metadata that the client sent, and what the proxy added."""

    def peer(self) -> str:
        """Returns the address of the client."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the status of the call."""

    def set_details(self, details: str) -> None:
        """Sets the message of the status."""

    def set_trailing_metadata(self, trailing_metadata: Sequence[tuple[str, str]]) -> None:
        """Sets the metadata that the client gets together with the status."""
