from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InvalidRequest, QueueFull
from server.row_queue import Entry, RowQueue


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
    sizes: list[int] = []
    queue = RowQueue(20, "tiny", sizes.append)
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
        assert not sizes or sizes[-1] == queue.rows


def test_entries_that_have_ended_are_dropped_when_a_batch_is_taken(loop: asyncio.AbstractEventLoop) -> None:
    queue = RowQueue(20, "tiny", lambda rows: None)
    first, second = entry_of(loop, 2), entry_of(loop, 3)
    queue.append(first)
    queue.append(second)
    first.done.cancel()
    assert [part.entry for part in queue.take(8, now=0.0)] == [second]
    assert queue.rows == 0


def test_more_rows_than_the_queue_ever_holds_are_invalid_rather_than_untimely() -> None:
    queue = RowQueue(20, "tiny", lambda rows: None)
    queue.check_room(20)
    with pytest.raises(InvalidRequest, match=r"21 rows are more than the queue ever holds \(20\)"):
        queue.check_room(21)
