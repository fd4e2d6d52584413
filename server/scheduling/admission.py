"""Decides whether a request may wait: refuses at once what cannot be computed in time. No clock, no threads.

A request is refused if the rows ahead of it and its own take longer than its deadline allows. While that happens to
requests that are willing to wait, the model is overloaded: any backlog only delays the requests that are answered, and
does not add to their number. So during overload the queue is kept as short as the engines need to stay busy. This is
the idea of CoDel (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012), applied when a request arrives.
"""

from __future__ import annotations

import math
from typing import Final

from ganserve.wording import counted
from server.errors import DeadlinePassed, QueueFull, ServerError
from server.scheduling.queue import PRIORITY_STEP_S, RowQueue, urgency_of
from server.scheduling.service_times import ServiceTimes

MIN_TARGET_S: Final = 0.1  # queueing delay during overload
SENDING_SHARE: Final = 0.05  # of the time that a request has left, for encoding and sending its answer
OVERLOAD_MEMORY_S: Final = 1.0  # overload ends this long after the last refusal, or when the model is idle


class Admission:
    """Checks requests against the queue of one model.

    Args:
        queue: the waiting requests.
        times: estimates of the model.
        name: name of the model, for messages.
    """

    def __init__(self, queue: RowQueue, times: ServiceTimes, name: str) -> None:
        self._queue = queue
        self._times = times
        self._name = name
        self._refused = -math.inf  # when the last request was refused because of the load

    def is_overloaded(self, now: float) -> bool:
        """Whether the queue is kept short, because requests were refused a moment ago."""
        return now - self._refused < OVERLOAD_MEMORY_S

    @property
    def patience_s(self) -> float:
        """How long requests that can wait let tighter deadlines pass: at most as long as two full queues take."""
        return min(PRIORITY_STEP_S, 2 * self._times.rows_s(self._queue.max_rows) or math.inf)

    def check(
        self, rows: int, deadline: float, priority: int, *, now: float, busy_s: float, max_batch_rows: int
    ) -> None:
        """Checks that a request may wait.

        Args:
            rows: rows of the request.
            deadline: its deadline, on the clock of `now`.
            priority: its priority.
            now: the time.
            busy_s: seconds until the running batches end, on average over the instances; 0 if one is free.
            max_batch_rows: the most rows per batch.

        Raises:
            InvalidRequest: it can never fit into the queue.
            QueueFull: it does not fit now, or cannot be computed before its deadline because of the load.
            DeadlinePassed: its own rows take longer than its deadline allows.
        """
        queue, times = self._queue, self._times
        try:
            queue.check_room(rows, times.retry_after_ms)
        except QueueFull:
            self._refused = now
            raise
        if not (busy_s or queue.requests or queue.reserved_rows):
            self._refused = -math.inf
            return  # an idle model always tries, and learns
        if not times.rows_per_s:
            return
        target_s = max(MIN_TARGET_S, 2 * times.batch_s(max_batch_rows))
        patience_s = self.patience_s
        urgency = urgency_of(now, deadline, priority, patience_s)
        if self.is_overloaded(now):
            if deadline - now < patience_s:
                standing_rows, limit_s = queue.rows_before(urgency), target_s
            else:  # each of these may wait for patience_s, so together they get at least a quarter of the capacity
                standing_rows, limit_s = queue.rows_up_to(priority), max(target_s, patience_s / 4)
            standing_s = times.rows_s(standing_rows + queue.reserved_rows)
            if standing_s > limit_s:
                self._refused = now
                raise self._overload(standing_s)
        if deadline == math.inf:
            return
        left_s = (deadline - now) * (1 - SENDING_SHARE) - busy_s - times.request_s(rows, max_batch_rows)
        if times.rows_s(queue.rows + queue.reserved_rows) <= left_s:
            return
        ahead_s = times.rows_s(queue.rows_before(urgency) + queue.reserved_rows)
        if ahead_s <= left_s:
            return
        if ahead_s > target_s:
            self._refused = now
        raise self._too_late(rows, deadline - now, busy_s + ahead_s, max_batch_rows)

    def _overload(self, wait_s: float) -> ServerError:
        return QueueFull(
            f"{self._name!r} is overloaded (its queue takes about {_milliseconds(wait_s)} ms): try again after a pause",
            self._times.retry_after_ms(self._queue.rows),
        )

    def _too_late(self, rows: int, left_s: float, wait_s: float, max_batch_rows: int) -> ServerError:
        own_s = self._times.request_s(rows, max_batch_rows)
        if own_s > left_s:
            return DeadlinePassed(
                f"computing {counted(rows, 'row')} of {self._name!r} takes about {_milliseconds(own_s)} ms, and the"
                f" deadline is in {_milliseconds(left_s)} ms: allow more time, or send fewer"
            )
        return QueueFull(
            f"{counted(rows, 'row')} of {self._name!r} would wait about {_milliseconds(wait_s)} ms and take"
            f" {_milliseconds(own_s)} ms, and the deadline is in {_milliseconds(left_s)} ms: try again after a pause,"
            " or allow more time",
            self._times.retry_after_ms(self._queue.rows),
        )


def _milliseconds(seconds: float) -> int:
    return round(1e3 * seconds)
