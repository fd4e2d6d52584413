from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import DeadlinePassed, InvalidRequest, QueueFull
from server.scheduling.queue import PRIORITY_LEVELS, PRIORITY_STEP_S, Entry, RowQueue


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def entry_of(loop: asyncio.AbstractEventLoop, rows: int) -> Entry:
    return Entry(np.zeros((rows, 1), np.float32), frozenset(), float("inf"), 0.0, loop.create_future())


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 9)),
            st.tuples(st.just("remove"), st.integers(0, 20)),
            st.tuples(st.just("take"), st.integers(1, 8)),
        )
    )
)
def test_it_behaves_like_a_plain_list_of_rows(loop: asyncio.AbstractEventLoop, steps: list[tuple[str, int]]) -> None:
    queue = RowQueue(20, "tiny")
    entries: list[Entry] = []
    expected: list[tuple[Entry, int]] = []
    for step, number in steps:
        if step == "append":
            try:
                queue.check_room(number)
            except QueueFull:
                assert len(expected) + number > 20
                continue
            entries.append(entry_of(loop, number))
            queue.append(entries[-1])
            expected += [(entries[-1], row) for row in range(number)]
        elif step == "remove" and entries:
            gone = entries[number % len(entries)]
            queue.remove(gone)
            expected = [(entry, row) for entry, row in expected if entry is not gone]
        elif step == "take":
            parts = queue.take(number, now=0.0)
            assert [(part.entry, row) for part in parts for row in range(part.start, part.stop)] == expected[:number]
            del expected[:number]
        assert queue.rows == len(expected)
        assert bool(queue) == bool(expected)


def test_entries_that_have_ended_are_dropped_when_a_batch_is_taken(loop: asyncio.AbstractEventLoop) -> None:
    queue = RowQueue(20, "tiny")
    first, second = entry_of(loop, 2), entry_of(loop, 3)
    queue.append(first)
    queue.append(second)
    first.done.cancel()
    assert [part.entry for part in queue.take(8, now=0.0)] == [second]
    assert queue.rows == 0


def test_more_rows_than_the_queue_can_hold_are_invalid() -> None:
    queue = RowQueue(20, "tiny")
    queue.check_room(20)
    with pytest.raises(InvalidRequest, match=r"21 rows are more than the queue can hold \(20\)"):
        queue.check_room(21)


def entry_at(loop: asyncio.AbstractEventLoop, enqueued: float, priority: int) -> Entry:
    return Entry(np.zeros((1, 1), np.float32), frozenset(), float("inf"), enqueued, loop.create_future(), priority)


def test_higher_priorities_go_first_and_no_request_starves(loop: asyncio.AbstractEventLoop) -> None:
    queue = RowQueue(20, "tiny")
    bulk, normal, urgent = (entry_at(loop, 1.0, priority) for priority in (3, 2, 1))
    newer = entry_at(loop, 1.5, 1)
    for entry in (bulk, normal, urgent, newer):
        queue.append(entry)
    much_newer = entry_at(loop, 1.5 + 2 * PRIORITY_STEP_S, 1)
    queue.append(much_newer)
    assert [part.entry for part in queue.take(9, now=much_newer.enqueued)] == [urgent, newer, normal, bulk, much_newer]


@given(arrivals=st.lists(st.tuples(st.floats(0, 5), st.integers(1, PRIORITY_LEVELS)), min_size=1, max_size=20))
def test_a_row_is_overtaken_only_by_higher_priorities_that_arrive_soon_after(
    loop: asyncio.AbstractEventLoop, arrivals: list[tuple[float, int]]
) -> None:
    queue = RowQueue(100, "tiny")
    for enqueued, priority in sorted(arrivals):
        queue.append(entry_at(loop, enqueued, priority))
    order = [part.entry for part in queue.take(100, now=9.0)]
    assert len(order) == len(arrivals)
    for position, entry in enumerate(order):
        for overtaken in order[position + 1 :]:
            if overtaken.enqueued < entry.enqueued:
                assert entry.priority < overtaken.priority
                steps = overtaken.priority - entry.priority
                assert entry.enqueued - overtaken.enqueued <= steps * PRIORITY_STEP_S


def test_the_earliest_deadline_is_never_later_than_that_of_any_row(loop: asyncio.AbstractEventLoop) -> None:
    queue = RowQueue(20, "tiny")
    for deadline in (9.0, 5.0, 7.0):
        entry = entry_of(loop, 1)
        entry.deadline = deadline
        queue.append(entry)
    assert queue.earliest_deadline == 5.0
    queue.take(20, now=0.0)
    assert queue.earliest_deadline == float("inf")


def test_the_deadline_of_an_entry_that_has_left_is_ignored(loop: asyncio.AbstractEventLoop) -> None:
    queue = RowQueue(20, "tiny")
    hurried, patient = entry_of(loop, 1), entry_of(loop, 2)
    hurried.deadline, patient.deadline = 5.0, 9.0
    queue.append(hurried)
    queue.append(patient)
    queue.remove(hurried)
    assert queue.earliest_deadline == 9.0
    queue.take(1, now=0.0)
    assert queue.earliest_deadline == 9.0


def timed_entry(loop: asyncio.AbstractEventLoop, rows: int, deadline: float) -> Entry:
    return Entry(np.zeros((rows, 1), np.float32), frozenset(), deadline, 0.0, loop.create_future())


def seconds_for(rows: int) -> float:
    return rows / 10


def test_within_a_priority_the_earlier_deadline_goes_first(loop: asyncio.AbstractEventLoop) -> None:
    queue = RowQueue(20, "tiny")
    patient, late, soon = (timed_entry(loop, 1, deadline) for deadline in (float("inf"), 4.0, 2.0))
    for entry in (patient, late, soon):
        queue.append(entry)
    assert queue.rows_before(0.0 + PRIORITY_STEP_S + 3.0) == 1
    assert [part.entry for part in queue.take(9, now=0.0)] == [soon, late, patient]


def test_rows_that_cannot_be_computed_before_their_deadline_are_not_started(loop: asyncio.AbstractEventLoop) -> None:
    queue = RowQueue(100, "tiny")
    hopeless, split, fine = timed_entry(loop, 5, 0.4), timed_entry(loop, 40, 3.9), timed_entry(loop, 5, 9.0)
    for entry in (hopeless, split, fine):
        queue.append(entry)
    assert [part.entry for part in queue.take(10, now=0.0, seconds_for=seconds_for)] == [fine]
    assert all(isinstance(entry.done.exception(), DeadlinePassed) for entry in (hopeless, split))
    assert queue.rows == 0


def test_a_batch_ends_early_rather_than_make_its_rows_late(loop: asyncio.AbstractEventLoop) -> None:
    queue = RowQueue(100, "tiny")
    first, second = timed_entry(loop, 2, 0.5), timed_entry(loop, 8, 2.0)
    queue.append(first)
    queue.append(second)
    assert [part.entry for part in queue.take(10, now=0.0, seconds_for=seconds_for)] == [first]
    assert [part.entry for part in queue.take(10, now=0.2, seconds_for=seconds_for)] == [second]


def test_rows_are_counted_by_priority(loop: asyncio.AbstractEventLoop) -> None:
    queue = RowQueue(100, "tiny")
    for priority, rows in ((1, 2), (2, 3), (3, 4)):
        done: asyncio.Future[dict[str, np.ndarray]] = loop.create_future()
        queue.append(Entry(np.zeros((rows, 1)), frozenset(), float("inf"), 0.0, done, priority))
    assert [queue.rows_up_to(priority) for priority in (1, 2, 3)] == [2, 5, 9]
    queue.take(4, now=0.0)
    assert [queue.rows_up_to(priority) for priority in (1, 2, 3)] == [0, 1, 5]
