"""Goodput of an overloaded batcher, in virtual time."""

from __future__ import annotations

import pytest

from server.scheduling.admission import MIN_TARGET_S
from tests.server.scheduling.virtual_time import ROWS_PER_S, Caller, overload, sizes


@pytest.mark.parametrize("deadline_s", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("load", [1, 2, 5, 10])
def test_an_overloaded_engine_computes_only_what_is_in_time(
    monkeypatch: pytest.MonkeyPatch, load: float, deadline_s: float
) -> None:
    caller = Caller(load, deadline_s)
    assert overload(monkeypatch, caller) >= 0.95
    assert caller.p99_s <= deadline_s
    assert caller.outcomes["DeadlinePassed"] <= 0.01 * caller.outcomes.total()  # the others are refused at once


@pytest.mark.parametrize("deadline_s", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("load", [1, 2, 5, 10])
def test_requests_of_any_size_share_an_overloaded_engine(
    monkeypatch: pytest.MonkeyPatch, load: float, deadline_s: float
) -> None:
    caller = Caller(load, deadline_s, sizes(1, 200))
    assert overload(monkeypatch, caller, seconds=10) >= 0.9
    assert caller.p99_s <= deadline_s


def test_the_queueing_delay_is_small_once_overload_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller(3, deadline_s=2.0)
    overload(monkeypatch, caller, seconds=10)
    last_half = caller.latencies_s[len(caller.latencies_s) // 2 :]
    batch_s = 0.064
    assert max(last_half) <= max(MIN_TARGET_S, 2 * batch_s) + 3 * batch_s


@pytest.mark.parametrize("patient_rows", [16, 200])
def test_callers_with_and_without_a_deadline_share_an_overloaded_engine(
    monkeypatch: pytest.MonkeyPatch, patient_rows: int
) -> None:
    hurried, patient = Caller(2, deadline_s=0.5), Caller(2, rows=lambda: patient_rows)
    goodput = overload(monkeypatch, hurried, patient, seconds=20)
    assert goodput >= 0.95
    assert min(hurried.answered_rows, patient.answered_rows) >= 0.2 * (hurried.answered_rows + patient.answered_rows)


def test_a_tight_deadline_passes_a_backlog_that_can_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    bulk, hurried = Caller(0.6, rows=lambda: 3000), Caller(0.3, deadline_s=0.5)
    assert overload(monkeypatch, bulk, hurried, seconds=20) >= 0.85
    assert set(hurried.outcomes) | set(bulk.outcomes) == {"answered"}


def test_low_priorities_are_refused_first(monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = Caller(0.8, deadline_s=1.0, priority=1), Caller(4, deadline_s=1.0, priority=3)
    assert overload(monkeypatch, first, last, seconds=10) >= 0.95
    assert first.outcomes["answered"] >= 0.95 * first.outcomes.total()


def test_overload_ends_when_the_load_does(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller(0.8, deadline_s=1.0)
    assert overload(monkeypatch, caller) >= 0.78
    assert set(caller.outcomes) == {"answered"}


@pytest.mark.parametrize(("callers", "rows"), [(4, 1000), (8, 1000), (100, 64)])
def test_callers_that_can_wait_do_not_starve_a_light_load_of_tight_deadlines(
    monkeypatch: pytest.MonkeyPatch, callers: int, rows: int
) -> None:
    bulk, hurried = Caller(deadline_s=60.0, rows=lambda: rows, in_turn=callers), Caller(0.3, deadline_s=0.5)
    assert overload(monkeypatch, bulk, hurried, seconds=30) >= 0.9
    assert hurried.outcomes["answered"] >= 0.9 * hurried.outcomes.total()


def test_callers_that_wait_for_their_answers_are_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller(deadline_s=10.0, rows=lambda: 64, in_turn=16)
    assert overload(monkeypatch, caller, seconds=10) >= 0.95
    assert set(caller.outcomes) == {"answered"}


def test_a_model_that_becomes_slower_still_computes_what_is_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch_s(rows: int, now: float) -> float:
        return rows / ROWS_PER_S * (1 if now < 2 else 10)

    caller = Caller(5, 2.0, sizes(1, 64))
    assert overload(monkeypatch, caller, seconds=22, batch_s=batch_s) >= (2 * 0.95 + 20 * 0.1 * 0.85) / 22
    assert caller.outcomes["DeadlinePassed"] <= 0.01 * caller.outcomes.total()


def test_a_batch_that_takes_long_once_does_not_slow_the_model_down_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    stalled: list[float] = []

    def batch_s(_: int, now: float) -> float:
        if now > 1 and not stalled:
            stalled.append(now)
            return 5.0
        return 0.02  # as on a GPU, whatever the size of the batch

    caller = Caller(2, deadline_s=0.2, rows=lambda: 1)
    assert overload(monkeypatch, caller, seconds=20, batch_s=batch_s) >= 2 * (20 - 5 - 1) / 20
