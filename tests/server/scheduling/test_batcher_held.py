"""While the batcher is held, the test controls what is in a batch: exact packing, order, expiry and refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from server.errors import DeadlinePassed, QueueFull, Unavailable
from server.scheduling.instances import GroupLimits, Instance, InstanceGroups
from tests.server.scheduling.held_run import FakeClock, HeldRun, rows_of, settle, submit


async def test_batches_are_packed_to_the_row_and_split_in_order(batchers: Any, held: HeldRun) -> None:
    held.release_all()
    batcher = batchers(max_batch_rows=4)
    with batcher.held():
        tasks = [submit(batcher, 1, 2, 3), submit(batcher, 4, 5, 6), submit(batcher, 7), submit(batcher, 8, 9)]
        await settle()
        assert (batcher.queued_rows, held.batches) == (9, [])
    results = await asyncio.gather(*tasks)
    assert held.batches == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]
    np.testing.assert_array_equal(results[1]["images"], rows_of(4, 5, 6) * 2)
    np.testing.assert_array_equal(results[3]["images"], rows_of(8, 9) * 2)


async def test_a_large_request_is_computed_on_all_engines_in_parallel_and_gathered(
    batchers: Any, held: HeldRun
) -> None:
    batcher = batchers(max_batch_rows=8, concurrency=2)
    task = submit(batcher, *range(7))
    assert {await held.started(), await held.started()} == {4, 3}
    held.release_all()
    np.testing.assert_array_equal((await task)["images"], rows_of(*range(7)) * 2)


async def test_priorities_decide_the_order_of_rows(batchers: Any, held: HeldRun) -> None:
    FakeClock()
    held.release_all()
    batcher = batchers(max_batch_rows=3)
    with batcher.held():
        tasks = [
            submit(batcher, 1, 2, priority=3),
            submit(batcher, 3, 4),
            submit(batcher, 5, priority=1),
            submit(batcher, 6, priority=1),
        ]
        await settle()
    await asyncio.gather(*tasks)
    assert held.batches == [[5, 6, 3], [4, 1, 2]]


async def test_expired_and_cancelled_rows_are_never_computed(batchers: Any, held: HeldRun) -> None:
    clock = FakeClock()
    held.release_all()
    batcher = batchers()
    with batcher.held():
        late = [submit(batcher, value, deadline=clock.now + 0.5) for value in (1, 2, 3)]
        gone, kept = submit(batcher, 4, 5), submit(batcher, 6, 7)
        await clock.advance(0.5)
        gone.cancel()
        await settle()
        assert [type(task.exception()) for task in late] == [DeadlinePassed] * 3
        assert batcher.queued_rows == 2
    await kept
    assert held.batches == [[6, 7]]


async def test_requests_that_do_not_fit_are_refused_with_a_retry_time(batchers: Any, held: HeldRun) -> None:
    held.release_all()
    batcher = batchers(max_batch_rows=8, max_queue_rows=8)
    with batcher.held():
        tasks = [submit(batcher, 10 * number, 10 * number + 1) for number in range(10)]
        await settle()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, QueueFull)]
    assert len(refused) == 6
    assert outcomes[4:] == refused
    assert all(error.retry_after_ms is not None and error.retry_after_ms >= 10 for error in refused)
    assert held.batches == [[0, 1, 10, 11, 20, 21, 30, 31]]


async def test_batches_wait_for_recent_clients_but_not_for_a_lone_one(batchers: Any, held: HeldRun) -> None:
    clock = FakeClock()
    held.release_all()
    batcher = batchers(max_delay_s=None)
    await asyncio.gather(*(submit(batcher, number) for number in range(4)))
    held.batches.clear()
    first = submit(batcher, 1)
    await settle()
    assert held.batches == []  # three more are expected
    others = [submit(batcher, value) for value in (2, 3, 4)]
    await asyncio.gather(first, *others)
    assert held.batches == [[1, 2, 3, 4]]
    held.batches.clear()
    lone = submit(batcher, 5)
    await clock.advance(0.002)
    await lone
    await submit(batcher, 6)  # the others did not arrive, so they are no longer expected
    assert held.batches == [[5], [6]]


@pytest.mark.parametrize("rows", [1, 3])
async def test_tiny_batches_are_answered_without_a_thread(batchers: Any, held: HeldRun, rows: int) -> None:
    held.release_all()
    batcher = batchers()
    batcher.rebuild(InstanceGroups([Instance("narrow", held, max_rows=4)], limits=GroupLimits(inline_rows=3)))
    entry = batcher.submit(rows_of(*range(rows)), frozenset({"images"}))
    with pytest.raises(StopIteration) as answered:
        entry.send(None)
    np.testing.assert_array_equal(answered.value.value["images"], rows_of(*range(rows)) * 2)


async def test_a_batch_started_before_a_rebuild_finishes_on_the_old_engines(batchers: Any, held: HeldRun) -> None:
    batcher = batchers(concurrency=2)
    old = batcher.groups
    running = submit(batcher, 1)
    await held.started()
    fresh = HeldRun()
    fresh.release_all()
    batcher.rebuild(InstanceGroups.of(fresh, 4, concurrency=1))
    held.release_all()
    await running
    assert len(old.take(4)) == 2
    await submit(batcher, 2)
    assert fresh.batches == [[2]]
    assert len(batcher.groups.take(4)) == 1


async def test_a_failure_on_replaced_engines_does_not_break_the_new_ones(batchers: Any, held: HeldRun) -> None:
    batcher = batchers(concurrency=2)

    def broken() -> None:
        raise RuntimeError("no device")

    batcher.rebuild(InstanceGroups([Instance("narrow", held, max_rows=4, probe=broken)]))
    running = submit(batcher, -1)
    await held.started()
    fresh = HeldRun()
    fresh.release_all()
    batcher.rebuild(InstanceGroups.of(fresh, 4, concurrency=3))
    held.release_all()
    with pytest.raises(Unavailable):
        await running
    assert not batcher.broken
    await submit(batcher, 2)
