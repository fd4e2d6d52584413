"""Deadlines, cancellation and delays: when rows leave the queue, and why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.errors import DeadlinePassed
from tests.server.scheduling.held_run import IMAGES, FakeClock, HeldRun, occupy, rows_of, settle, submit


async def test_an_expired_request_leaves_the_queue_while_the_engine_is_still_busy(batchers: Any, held: HeldRun) -> None:
    clock = FakeClock()
    batcher = batchers()
    first = await occupy(batcher, held)
    late = submit(batcher, 1, 2, deadline=clock.now + 3)
    patient = submit(batcher, 3, deadline=clock.now + 9)
    await clock.advance(2.75)
    assert batcher.queued_rows == 3
    await clock.advance(0.25)
    assert batcher.queued_rows == 1
    with pytest.raises(DeadlinePassed):
        await late
    held.release_all()
    await asyncio.gather(first, patient)
    assert held.computed == [99, 3]


async def test_a_request_whose_timer_has_not_run_yet_is_not_computed_late(batchers: Any, held: HeldRun) -> None:
    clock = FakeClock()
    batcher = batchers()
    first = await occupy(batcher, held)
    late = submit(batcher, 1, deadline=clock.now + 3)
    await settle()
    clock.now += 3  # the engine becomes free before the loop runs its timers
    held.release_all()
    await first
    with pytest.raises(DeadlinePassed):
        await late
    assert held.computed == [99]


async def test_a_deadline_that_has_passed_already_is_refused(batchers: Any, held: HeldRun) -> None:
    clock = FakeClock()
    with pytest.raises(DeadlinePassed, match="passed already"):
        await batchers().submit(rows_of(1), IMAGES, clock.now)
    assert held.computed == []


async def test_a_deadline_ends_a_request_that_is_being_computed(batchers: Any, held: HeldRun) -> None:
    clock = FakeClock()
    task = submit(batchers(), 1, deadline=clock.now + 3)
    await held.started()
    await clock.advance(3)
    with pytest.raises(DeadlinePassed):
        await task


async def test_a_cancelled_request_leaves_the_queue_at_once_and_is_never_computed(batchers: Any, held: HeldRun) -> None:
    batcher = batchers()
    first = await occupy(batcher, held)
    gone, kept = submit(batcher, 1, 2), submit(batcher, 3)
    await settle()
    gone.cancel()
    await settle()
    assert batcher.queued_rows == 1
    held.release_all()
    await asyncio.gather(first, kept)
    assert gone.cancelled()
    assert held.computed == [99, 3]


async def test_the_rest_of_a_split_request_is_not_computed_once_it_is_cancelled(batchers: Any, held: HeldRun) -> None:
    batcher = batchers()
    task = submit(batcher, *range(10))
    await held.started()
    assert batcher.queued_rows == 6
    task.cancel()
    await settle()
    assert batcher.queued_rows == 0
    held.release_all()
    await batcher.drain()
    assert held.computed == [0, 1, 2, 3]


async def test_a_full_batch_is_not_delayed(batchers: Any, held: HeldRun) -> None:
    FakeClock()
    batcher = batchers(max_delay_s=60.0)
    tasks = [submit(batcher, 1, 2), submit(batcher, 3)]
    await settle()
    assert held.batches == []
    tasks.append(submit(batcher, 4))
    assert await held.started() == 4
    held.release_all()
    await asyncio.gather(*tasks)


async def test_a_delay_is_measured_from_the_oldest_row(batchers: Any, held: HeldRun) -> None:
    clock = FakeClock()
    batcher = batchers(max_delay_s=1.0)
    tasks = [submit(batcher, 1)]
    await clock.advance(0.75)
    tasks.append(submit(batcher, 2))
    await settle()
    assert held.batches == []
    await clock.advance(0.25)
    assert await held.started() == 2
    held.release_all()
    await asyncio.gather(*tasks)


async def test_a_delay_restarts_when_the_oldest_row_has_left(batchers: Any, held: HeldRun) -> None:
    clock = FakeClock()
    batcher = batchers(max_delay_s=1.0)
    gone = submit(batcher, 1)
    await clock.advance(0.5)
    kept = submit(batcher, 2)
    await settle()
    gone.cancel()
    await clock.advance(0.5)
    assert held.batches == []
    await clock.advance(0.5)
    assert await held.started() == 1
    held.release_all()
    await kept


async def test_no_request_is_delayed_past_a_deadline(batchers: Any, held: HeldRun) -> None:
    clock = FakeClock()
    batcher = batchers(max_delay_s=60.0)
    patient = submit(batcher, 1)
    hurried = submit(batcher, 2, deadline=clock.now + 30)
    assert await held.started() == 2
    held.release_all()
    await asyncio.gather(patient, hurried)
