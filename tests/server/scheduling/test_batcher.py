from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import InternalError, InvalidRequest, QueueFull, Unavailable
from server.scheduling.batcher import Batcher
from server.scheduling.instances import InstanceGroups
from server.statistics import BatchTimes
from tests.server.scheduling.held_run import (
    IMAGES,
    PIXELS,
    FakeClock,
    HeldRun,
    answers,
    occupy,
    rows_of,
    settle,
    submit,
)


async def test_requests_that_come_together_get_into_one_batch(batchers: Any, held: HeldRun) -> None:
    batcher = batchers()
    together = [asyncio.create_task(batcher.submit(rows_of(number), IMAGES)) for number in range(3)]
    batcher.expect_more()  # the tasks run before the next turn
    batcher.expect_more()
    assert await held.started() == 3
    held.release()
    await asyncio.gather(*together)
    alone = asyncio.create_task(batcher.submit(rows_of(4), IMAGES))
    assert await held.started() == 1
    held.release()
    await alone


async def test_a_lone_request_is_dispatched_at_once(batchers: Any, held: HeldRun) -> None:
    FakeClock()  # time stands still, so no timer can start it
    batcher = batchers()
    task = submit(batcher, 1, 2)
    assert await held.started() == 2
    held.release()
    np.testing.assert_array_equal((await task)["images"], rows_of(1, 2) * 2)
    assert batcher.queued_rows == 0


async def test_batches_form_while_the_engine_is_busy(batchers: Any, held: HeldRun) -> None:
    batcher = batchers(max_batch_rows=8)
    first = await occupy(batcher, held)
    others = [submit(batcher, 1), submit(batcher, 2, 3), submit(batcher, 4)]
    await settle()
    held.release_all()
    results = await asyncio.gather(first, *others)
    assert held.batches == [[99], [1, 2, 3, 4]]
    np.testing.assert_array_equal(results[2]["images"], rows_of(2, 3) * 2)


async def test_a_request_larger_than_a_batch_is_split_and_gathered_in_order(batchers: Any, held: HeldRun) -> None:
    held.release_all()
    result = await submit(batchers(concurrency=3), *range(10))
    assert sorted(map(len, held.batches)) == [3, 3, 4]
    np.testing.assert_array_equal(result["images"], rows_of(*range(10)) * 2)


async def test_rows_fill_batches_across_requests_in_order(batchers: Any, held: HeldRun) -> None:
    batcher = batchers()
    first = await occupy(batcher, held)
    others = [submit(batcher, 1, 2, 3), submit(batcher, 4, 5, 6), submit(batcher, 7, 8, 9)]
    await settle()
    held.release_all()
    await asyncio.gather(first, *others)
    assert held.batches == [[99], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


async def test_only_outputs_that_a_request_in_the_batch_wants_are_computed(batchers: Any, held: HeldRun) -> None:
    batcher = batchers()
    first = await occupy(batcher, held)
    images = submit(batcher, 1)
    pixels = asyncio.create_task(batcher.submit(rows_of(2), PIXELS))
    await settle()
    held.release_all()
    await asyncio.gather(first, images, pixels)
    assert held.outputs == [IMAGES, IMAGES | PIXELS]
    assert set(await images) == IMAGES
    assert set(await pixels) == PIXELS


async def test_room_is_reserved_for_rows_that_are_being_prepared(batchers: Any, held: HeldRun) -> None:
    batcher = batchers(max_queue_rows=5)
    first = await occupy(batcher, held)
    with batcher.reserve(3):
        with pytest.raises(QueueFull, match=r"\(3 of 5 rows wait, 3 more do not fit\)"), batcher.reserve(3):
            raise AssertionError("there was room")
        with pytest.raises(QueueFull):
            await batcher.submit(rows_of(4, 5, 6), IMAGES)
        waiting = submit(batcher, 1, 2)
        await settle()
    taken_over = submit(batcher, 7, 8, 9)
    await settle()
    assert batcher.queued_rows == 5
    held.release_all()
    await asyncio.gather(first, waiting, taken_over)


async def test_several_engines_compute_in_parallel(batchers: Any, held: HeldRun) -> None:
    batcher = batchers(concurrency=2)
    tasks = [submit(batcher, 1), submit(batcher, 2)]
    assert [await held.started(), await held.started()] == [1, 1]
    held.release_all()
    await asyncio.gather(*tasks)


async def test_a_request_that_does_not_fit_completely_into_the_queue_is_refused(batchers: Any, held: HeldRun) -> None:
    batcher = batchers(max_queue_rows=5)
    first = await occupy(batcher, held)
    waiting = submit(batcher, 1, 2, 3)
    await settle()
    with pytest.raises(QueueFull, match=r"'tiny' is full \(3 of 5 rows wait, 3 more do not fit\): try again"):
        await batcher.submit(rows_of(4, 5, 6), IMAGES)
    assert batcher.queued_rows == 3
    small = submit(batcher, 7, 8)
    await settle()
    held.release_all()
    await asyncio.gather(first, waiting, small)
    assert 4 not in held.computed


async def test_a_request_that_can_never_fit_is_invalid(batchers: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"6 rows are more than the queue can hold \(5\)"):
        await batchers(max_queue_rows=5).submit(rows_of(*range(6)), IMAGES)


async def test_the_rest_of_a_split_request_is_not_computed_once_a_part_has_failed(batchers: Any, held: HeldRun) -> None:
    held.release_all()
    with pytest.raises(InternalError):
        await submit(batchers(), -1, *range(9))
    assert held.computed == [-1, 0, 1, 2]


async def test_only_the_request_at_fault_fails(batchers: Any, held: HeldRun, caplog: pytest.LogCaptureFixture) -> None:
    batcher = batchers()
    first = await occupy(batcher, held)
    tasks = [submit(batcher, 1), submit(batcher, -2), submit(batcher, 3)]
    await settle()
    held.release_all()
    with pytest.raises(InternalError) as failure:
        await tasks[1]
    good, other, _ = await asyncio.gather(tasks[0], tasks[2], first)
    assert held.batches == [[99], [1, -2, 3], [1], [-2, 3], [-2], [3]]
    np.testing.assert_array_equal(good["images"], rows_of(1) * 2)
    np.testing.assert_array_equal(other["images"], rows_of(3) * 2)
    assert "secret" not in str(failure.value)
    assert "secret detail" in caplog.text


async def test_a_failing_batch_is_not_rerun_for_cancelled_requests(batchers: Any, held: HeldRun) -> None:
    batcher = batchers()
    first = await occupy(batcher, held)
    gone, bad = submit(batcher, 1), submit(batcher, -2)
    await settle()
    held.release()
    await first
    await held.started()
    gone.cancel()
    held.release_all()
    with pytest.raises(InternalError):
        await bad
    assert held.batches == [[99], [1, -2], [-2]]


async def test_the_engine_serves_again_after_a_failure(batchers: Any, held: HeldRun) -> None:
    held.release_all()
    batcher = batchers()
    with pytest.raises(InternalError):
        await batcher.submit(rows_of(-1), IMAGES)
    np.testing.assert_array_equal((await batcher.submit(rows_of(1), IMAGES))["images"], rows_of(1) * 2)


async def test_a_wrong_number_of_rows_from_the_engine_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    batcher = Batcher(InstanceGroups.of(lambda inputs, outputs: answers(inputs[1:], outputs), 4), max_queue_rows=4)
    with caplog.at_level(logging.ERROR), pytest.raises(InternalError):
        await batcher.submit(rows_of(1, 2), IMAGES)
    assert "the engine returned" in caplog.text
    await batcher.close()


async def test_a_drain_refuses_new_requests_and_finishes_the_accepted(batchers: Any, held: HeldRun) -> None:
    FakeClock()
    batcher = batchers(max_delay_s=60.0)
    accepted = [submit(batcher, 1)]
    await settle()
    draining = asyncio.create_task(batcher.drain())
    assert await held.started() == 1  # the delay is off
    with pytest.raises(Unavailable):
        await batcher.submit(rows_of(2), IMAGES)
    assert not draining.done()
    held.release_all()
    await draining
    np.testing.assert_array_equal((await accepted[0])["images"], rows_of(1) * 2)


async def test_hurry_ends_delays_without_refusing_requests(batchers: Any, held: HeldRun) -> None:
    FakeClock()
    batcher = batchers(max_delay_s=60.0)
    waiting = submit(batcher, 1)
    await settle()
    batcher.hurry()
    assert await held.started() == 1
    later = submit(batcher, 2)
    held.release_all()
    await asyncio.gather(waiting, later)


async def test_close_fails_waiting_requests_and_finishes_running_ones(batchers: Any, held: HeldRun) -> None:
    batcher = batchers()
    running = await occupy(batcher, held)
    waiting = submit(batcher, 1)
    await settle()
    closing = asyncio.create_task(batcher.close())
    with pytest.raises(Unavailable):
        await waiting
    held.release_all()
    await closing
    assert held.computed == [99]
    assert set(await running) == IMAGES


class Recorder:
    def __init__(self) -> None:
        self.waits: list[float] = []
        self.batches: list[tuple[int, int]] = []

    def request_waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def batch_computed(self, batch: BatchTimes) -> None:
        assert min(batch.gather_s, batch.compute_s, batch.scatter_s) >= 0
        self.batches.append((batch.rows, batch.requests))


async def test_the_observer_sees_the_waits_and_the_batches(batchers: Any, held: HeldRun) -> None:
    clock, recorder = FakeClock(), Recorder()
    batcher = batchers(observer=recorder)
    first = await occupy(batcher, held)
    second = submit(batcher, *range(6))
    await clock.advance(2)
    held.release_all()
    await asyncio.gather(first, second)
    assert recorder.batches == [(1, 1), (4, 1), (2, 1)]
    assert recorder.waits == [0, 2]


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from(["keep", "keep", "cancel", "fail"])), min_size=1, max_size=12
    ),
    max_batch_rows=st.integers(1, 8),
    concurrency=st.integers(1, 3),
    delay_s=st.sampled_from([None, 0.0, 0.0005]),
)
def test_rows_are_never_mixed_up_or_lost_and_batches_never_too_large(
    requests: list[tuple[int, str]], max_batch_rows: int, concurrency: int, delay_s: float | None
) -> None:
    async def scenario() -> None:
        held = HeldRun()
        batcher = Batcher(
            InstanceGroups.of(held, max_batch_rows, concurrency), max_queue_rows=1000, max_delay_s=delay_s
        )
        tasks = []
        for number, (rows, fate) in enumerate(requests):
            values = [100.0 * (number + 1) + row for row in range(rows)]
            if fate == "fail":
                values[-1] *= -1
            tasks.append((values, fate, submit(batcher, *values)))
            if number % 3 == 0:
                await asyncio.sleep(0)
        held.release(1 + len(requests) // 2)
        for _, fate, task in tasks:
            if fate == "cancel":
                task.cancel()
        held.release_all()
        for values, fate, task in tasks:
            if fate == "keep":
                np.testing.assert_array_equal((await task)["images"], rows_of(*values) * 2)
            elif fate == "fail":
                with pytest.raises(InternalError):
                    await task
            else:
                await asyncio.wait([task])
        assert batcher.queued_rows == 0
        assert max(map(len, held.batches), default=0) <= max_batch_rows
        await batcher.close()

    logging.disable(logging.ERROR)
    try:
        asyncio.run(asyncio.wait_for(scenario(), 30))
    finally:
        logging.disable(logging.NOTSET)
