"""The errors of the server: one class per gRPC status, and `StartupError` for what the user has to fix.

Messages name the field or flag and the remedy. `InternalError` has a fixed text: details go to the log only.
"""

from __future__ import annotations

from typing import ClassVar, Final

import grpc

PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""Metadata with the time that gRPC's clients wait before they retry."""


class StartupError(Exception):
    """The server cannot start with these flags; the message names the flag and the remedy."""


class ServerError(Exception):
    """A request cannot be answered; the message is sent to the caller."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "internal"  # a metric label

    @property
    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata that the caller gets together with the status."""
        return ()


class InvalidRequest(ServerError):  # noqa: N818 - named like the status
    """The request can never succeed."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "invalid"


class NotServed(ServerError):  # noqa: N818 - named like the status
    """The model or version is not served."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "not_served"


class NotLoaded(ServerError):  # noqa: N818 - named like the status
    """A version does not work, so it was not loaded; what was served before still is."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "not_loaded"


class QueueFull(ServerError):  # noqa: N818 - named like the status
    """There is no room for the request now.

    Args:
        message: the message for the caller.
        retry_after_ms: estimated time until there is room; None if unknown.
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "queue_full"

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms

    @property
    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        """The retry time, if it is known."""
        return () if self.retry_after_ms is None else ((PUSHBACK_KEY, str(self.retry_after_ms)),)


class DeadlinePassed(ServerError):  # noqa: N818 - named like the status
    """The caller's deadline passed before the rows were computed."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "deadline"


class Unavailable(ServerError):  # noqa: N818 - named like the status
    """The server or the model is starting, draining or being rebuilt."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "unavailable"


class InternalError(ServerError):
    """The server is at fault."""

    def __init__(self) -> None:
        super().__init__("the server failed to answer this request; its log says why")


class NotAllowed(ServerError):  # noqa: N818 - named like the status
    """The server was started without the flag that allows this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "not_allowed"


class Unauthenticated(ServerError):  # noqa: N818 - named like the status
    """The call carries no valid token."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "unauthenticated"
