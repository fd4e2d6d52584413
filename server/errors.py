"""The errors of the server: one class a gRPC status, and one for a start that the user must mend.

Messages name the field or flag and the remedy. `InternalError` carries a fixed text: details stay in the log.
"""

from __future__ import annotations

from typing import ClassVar

import grpc


class StartupError(Exception):
    """The server cannot start as it was asked to; the message names the flag and what to do about it."""


class ServerError(Exception):
    """A request cannot be answered; the message is sent to the caller."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "internal"  # a label of metrics


class InvalidRequest(ServerError):  # noqa: N818 - named like the status
    """The request can never succeed."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "invalid"


class NotServed(ServerError):  # noqa: N818 - named like the status
    """No such model or version is served."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "not_served"


class QueueFull(ServerError):  # noqa: N818 - named like the status
    """The rows do not fit into the queue now.

    Args:
        message: for the caller.
        retry_after_ms: when they may, as an estimate; None if nothing is known.
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "queue_full"

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class DeadlinePassed(ServerError):  # noqa: N818 - named like the status
    """The caller's deadline passed before the rows were computed."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "deadline"


class Unavailable(ServerError):  # noqa: N818 - named like the status
    """The server, or the model, is starting, draining or being mended."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "unavailable"


class InternalError(ServerError):
    """A fault of the server."""

    def __init__(self) -> None:
        super().__init__("the server failed to answer this request; its log says why")


class NotAllowed(ServerError):  # noqa: N818 - named like the status
    """The server was not started so that callers may do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "not_allowed"
