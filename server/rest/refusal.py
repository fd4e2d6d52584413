"""Requests that HTTP refuses by itself."""

from __future__ import annotations

from http import HTTPStatus

from server.errors import InvalidRequest


class Refusal(InvalidRequest):
    """A request that cannot succeed for a reason that only HTTP knows.

    Args:
        status: the status of the answer.
        message: the message for the caller.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
