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


class InvalidRequest(ServerError):  # noqa: N818 - named like the status
    """The request can never succeed."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotServed(ServerError):  # noqa: N818 - named like the status
    """No such model or version is served."""

    code = grpc.StatusCode.NOT_FOUND


class QueueFull(ServerError):  # noqa: N818 - named like the status
    """The rows do not fit into the queue now."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class DeadlinePassed(ServerError):  # noqa: N818 - named like the status
    """The caller's deadline passed before the rows were computed."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unavailable(ServerError):  # noqa: N818 - named like the status
    """The server is starting or draining."""

    code = grpc.StatusCode.UNAVAILABLE


class InternalError(ServerError):
    """A fault of the server."""

    def __init__(self) -> None:
        super().__init__("the server failed to answer this request; its log says why")
