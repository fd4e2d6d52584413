"""Tests for server.ray_serve.timed_context."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from server.ray_serve.timed_context import TIMEOUT_KEY, TimedContext


@dataclass
class FakeContext:
    """What grpc.aio tells about a call."""

    remaining_s: float | None
    sent: tuple[tuple[str, str], ...] | None = (("authorization", "Bearer t"),)

    def time_remaining(self) -> float | None:
        return self.remaining_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...] | None:
        return self.sent

    def peer(self) -> str:
        return "ipv4:127.0.0.1:5"


@pytest.mark.parametrize(("remaining_s", "told_ms"), [(1.5, "1500"), (0.0, "0"), (-1.0, "0")])
def test_the_time_that_remains_is_added(remaining_s: float, told_ms: str) -> None:
    metadata = TimedContext(FakeContext(remaining_s)).invocation_metadata()
    assert metadata == [("authorization", "Bearer t"), (TIMEOUT_KEY, told_ms)]


def test_without_a_deadline_nothing_is_added() -> None:
    assert TimedContext(FakeContext(None)).invocation_metadata() == [("authorization", "Bearer t")]
    assert TimedContext(FakeContext(None, sent=None)).invocation_metadata() == []


@pytest.mark.parametrize("remaining_s", [None, 2.0])
def test_a_client_cannot_set_the_key(remaining_s: float | None) -> None:
    context = TimedContext(FakeContext(remaining_s, sent=((TIMEOUT_KEY, "0"),)))
    assert (TIMEOUT_KEY, "0") not in context.invocation_metadata()


def test_everything_else_is_that_of_grpc() -> None:
    assert TimedContext(FakeContext(None)).peer() == "ipv4:127.0.0.1:5"
