from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.scheduling.pacing import MAX_WAIT_S, Pacing


def test_a_lone_request_does_not_wait() -> None:
    pacing = Pacing(None)
    for number in range(20):
        pacing.arrived(number * 0.001, 1)
        assert pacing.wait_until(number * 0.001, math.inf, 1) is None


def test_a_row_waits_for_clients_that_were_just_answered() -> None:
    pacing = Pacing(None)
    for caller in range(1, 9):
        pacing.arrived(0.0, caller)
    pacing.arrived(0.004, 3)
    assert pacing.wait_until(0.004, math.inf, 3) == 0.004 + MAX_WAIT_S


def test_no_row_waits_once_all_recent_clients_are_back() -> None:
    pacing = Pacing(None)
    for caller in range(1, 9):
        pacing.arrived(0.0, caller)
    pacing.arrived(0.001, 8)
    assert pacing.wait_until(0.001, math.inf, 8) is None


def test_the_estimate_of_recent_clients_decays() -> None:
    pacing = Pacing(None)
    pacing.arrived(0.0, 100)
    pacing.arrived(1.0, 1)
    assert pacing.wait_until(1.0, math.inf, 1) is None


def test_after_a_wait_without_arrivals_the_next_row_does_not_wait() -> None:
    pacing = Pacing(None)
    pacing.arrived(0.0, 8)
    pacing.arrived(0.001, 1)
    assert pacing.wait_until(0.001, math.inf, 1) is not None
    pacing.nothing_arrived(1)
    pacing.arrived(0.004, 1)
    assert pacing.wait_until(0.004, math.inf, 1) is None


@pytest.mark.parametrize("crowd", [1, 50])
def test_a_fixed_delay_ignores_the_load(crowd: int) -> None:
    pacing = Pacing(0.25)
    pacing.arrived(1.0, crowd)
    assert pacing.wait_until(1.0, math.inf, 1) == 1.25


@given(
    max_delay_s=st.sampled_from([None, 0.0, 0.001, 0.5]),
    oldest=st.floats(0, 10),
    hurry_s=st.floats(0, 1),
    crowd=st.integers(1, 200),
    here=st.integers(1, 200),
)
def test_no_wait_ever_reaches_a_deadline_or_exceeds_its_limit(
    max_delay_s: float | None, oldest: float, hurry_s: float, crowd: int, here: int
) -> None:
    pacing = Pacing(max_delay_s)
    pacing.arrived(oldest, crowd)
    due = pacing.wait_until(oldest, oldest + hurry_s, here)
    if due is not None:
        assert oldest < due < oldest + hurry_s
        assert due <= oldest + (MAX_WAIT_S if max_delay_s is None else max_delay_s)
