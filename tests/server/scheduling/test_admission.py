from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import numpy as np
import pytest

from server.errors import DeadlinePassed, QueueFull
from server.scheduling.admission import MIN_TARGET_S, OVERLOAD_MEMORY_S, SENDING_SHARE, Admission
from server.scheduling.queue import DEFAULT_PRIORITY, PRIORITY_STEP_S, Entry, RowQueue
from server.scheduling.service_times import ServiceTimes

NOW = 100.0
BATCH_ROWS = 10


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Model:
    """A queue whose model computes 100 rows per second, in batches of 10."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.queue, self.times = RowQueue(1000, "tiny"), ServiceTimes()
        self.times.computed(BATCH_ROWS, 0.1, 1)
        self.admission = Admission(self.queue, self.times, "tiny")

    def wait(self, rows: int, deadline: float = math.inf, priority: int = DEFAULT_PRIORITY) -> None:
        """Puts a request into the queue, unchecked."""
        done: asyncio.Future[dict[str, np.ndarray]] = self._loop.create_future()
        self.queue.append(Entry(np.zeros((rows, 1)), frozenset(), deadline, NOW, done, priority))

    def check(
        self, rows: int, left_s: float = math.inf, *, busy_s: float = 0.1, later_s: float = 0.0, priority: int = 2
    ) -> None:
        now = NOW + later_s
        self.admission.check(rows, now + left_s, priority, now=now, busy_s=busy_s, max_batch_rows=BATCH_ROWS)


@pytest.fixture
def model(loop: asyncio.AbstractEventLoop) -> Model:
    return Model(loop)


def test_a_request_is_admitted_if_the_rows_ahead_and_its_own_are_computed_in_time(model: Model) -> None:
    model.wait(100, NOW)
    needed_s = 0.1 + 1.0 + 0.2  # the running batch, the queue, and 20 rows
    model.check(20, 1.01 * needed_s / (1 - SENDING_SHARE))
    with pytest.raises(
        QueueFull, match=r"^20 rows of 'tiny' would wait about 1100 ms and take 200 ms, and the deadline is in 1290 ms:"
    ) as refusal:
        model.check(20, 1.29)
    assert refusal.value.retry_after_ms == 1000


def test_rows_that_are_being_prepared_are_ahead_of_every_request(model: Model) -> None:
    model.queue.reserved_rows = 100
    with pytest.raises(QueueFull):
        model.check(20, 1.2)


def test_rows_that_take_longer_than_the_deadline_allows_are_late_and_not_overload(model: Model) -> None:
    model.wait(10)
    with pytest.raises(
        DeadlinePassed,
        match=r"^computing 100 rows of 'tiny' takes about 1000 ms, and the deadline is in 500 ms: allow more time, or",
    ):
        model.check(100, 0.5)
    assert not model.admission.is_overloaded(NOW)


def test_an_idle_model_tries_whatever_it_is_asked_for(model: Model) -> None:
    model.check(100, 0.5, busy_s=0.0)


def test_only_rows_that_go_first_count_against_a_tight_deadline(model: Model) -> None:
    model.wait(500)  # can wait
    model.check(10, 0.5)
    model.wait(40, NOW + 0.4)
    with pytest.raises(QueueFull):
        model.check(10, 0.5)


@pytest.mark.parametrize(("waiting_rows", "overloaded"), [(15, False), (60, True)])
def test_a_refusal_means_overload_only_if_a_shorter_queue_would_have_helped(
    model: Model, waiting_rows: int, overloaded: bool
) -> None:
    model.wait(waiting_rows, NOW)
    with pytest.raises(QueueFull):
        model.check(10, 0.3)
    assert model.admission.is_overloaded(NOW) is overloaded


@pytest.mark.parametrize(("left_s", "limit_s"), [(1.0, max(MIN_TARGET_S, 2 * 0.1)), (60.0, PRIORITY_STEP_S / 4)])
def test_during_overload_the_queue_is_kept_short(model: Model, left_s: float, limit_s: float) -> None:
    model.admission._refused = NOW
    model.wait(int(100 * limit_s), NOW + left_s)
    model.check(50, left_s)  # its own rows do not count
    model.wait(1, NOW + left_s)
    with pytest.raises(
        QueueFull, match=rf"^'tiny' is overloaded \(its queue takes about {1000 * limit_s + 10:.0f} ms\): try again"
    ):
        model.check(1, left_s + 0.001)
    model.check(1, left_s, priority=1)  # no row of its priority waits


def test_a_full_queue_means_overload(model: Model) -> None:
    model.wait(1000)
    with pytest.raises(QueueFull, match="is full"):
        model.check(1)
    assert model.admission.is_overloaded(NOW)


def test_during_overload_rows_that_can_wait_do_not_count_against_a_tight_deadline(model: Model) -> None:
    model.admission._refused = NOW
    model.wait(500)
    model.check(1, 1.0)


@pytest.mark.parametrize(("rows_per_s", "patience_s"), [(0, 5.0), (100, 5.0), (1000, 2.0)])
def test_no_request_lets_others_pass_for_longer_than_two_full_queues_take(
    model: Model, rows_per_s: float, patience_s: float
) -> None:
    model.times.rows_per_s = rows_per_s
    assert model.admission.patience_s == patience_s


def test_overload_ends_after_a_while_without_refusals_or_at_once_if_the_model_is_idle(model: Model) -> None:
    model.wait(100, NOW)
    with pytest.raises(QueueFull):
        model.check(10, 0.3)
    assert model.admission.is_overloaded(NOW + 0.9 * OVERLOAD_MEMORY_S)
    assert not model.admission.is_overloaded(NOW + OVERLOAD_MEMORY_S)
    model.queue.take(100, NOW)
    for entry in list(model.queue):
        model.queue.remove(entry)
    model.check(1, busy_s=0.0)
    assert not model.admission.is_overloaded(NOW)
