"""Tests for server.hosted_call."""

from __future__ import annotations

from server.hosted_call import HostedCall


def test_a_call_without_a_timeout_has_no_deadline() -> None:
    assert HostedCall().time_remaining() is None


def test_the_time_that_remains_falls_and_never_below_zero() -> None:
    call = HostedCall(timeout_s=100)
    first = call.time_remaining()
    assert first is not None
    assert 90 < first <= 100
    assert HostedCall(timeout_s=0).time_remaining() == 0
    assert HostedCall(timeout_s=-5).time_remaining() == 0


def test_metadata_and_peer_are_those_of_the_host() -> None:
    call = HostedCall(metadata=(("authorization", "Bearer t"),), peer="http:127.0.0.1:5")
    assert call.invocation_metadata() == (("authorization", "Bearer t"),)
    assert call.peer() == "http:127.0.0.1:5"


def test_callbacks_run_once_at_the_end_in_order() -> None:
    call, told = HostedCall(), list[int]()
    call.add_done_callback(lambda: told.append(1))
    call.add_done_callback(lambda: told.append(2))
    assert not told
    call.end()
    call.end()
    assert told == [1, 2]


def test_a_callback_that_is_added_after_the_end_runs_at_once() -> None:
    call, told = HostedCall(), list[int]()
    call.end()
    call.add_done_callback(lambda: told.append(1))
    assert told == [1]
