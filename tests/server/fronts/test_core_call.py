from __future__ import annotations

import asyncio
from typing import Any

from server.fronts.core_call import CoreCall


class Details:
    deadline = 9.2e18


class Batch:
    """An operation that is complete."""

    def __init__(self, *, cancelled: bool) -> None:
        self.batch_operations = [self]
        self.cancelled = lambda: cancelled


class Event:
    """A call by which nothing can be sent, as one that is over."""

    call_details = Details()
    invocation_metadata = (("key", "value"),)

    def __init__(self, result: int = 8) -> None:
        self.call = self
        self.started: list[Any] = []
        self._result = result

    def start_server_batch(self, operations: Any, completed: Any) -> int:
        self.started.append((operations, completed))
        return self._result

    def peer(self) -> bytes:
        return b"ipv4:127.0.0.1:5"


class Stopping(CoreCall):
    """A call that ends as soon as its client leaves."""

    def _stop(self) -> None:
        self._end("never sent")


async def test_a_call_whose_last_operations_are_refused_is_over() -> None:
    ended: list[Any] = []
    call = CoreCall(Event(), asyncio.get_running_loop(), ended.append)
    call.add_done_callback(lambda: ended.append("callback"))
    assert (call.peer(), call.time_remaining()) == ("ipv4:127.0.0.1:5", None)
    call._end("status")
    call._end("status")
    assert ended == [call, "callback"]
    assert call.peer() == ""  # gRPC's call is released


async def test_nothing_is_sent_to_a_client_that_has_left() -> None:
    ended: list[Any] = []
    event = Event(result=0)
    call = Stopping(event, asyncio.get_running_loop(), ended.append)
    call.watch()
    ((_, closed),) = event.started
    closed(Batch(cancelled=True))
    assert call.cancelled
    assert ended == [call]
    assert len(event.started) == 1


async def test_a_call_that_is_answered_is_over_once_the_answer_is_sent() -> None:
    ended: list[Any] = []
    event = Event(result=0)
    call = Stopping(event, asyncio.get_running_loop(), ended.append)
    call.watch()
    call._end("answer", "status")
    assert not ended
    (_, closed), (operations, sent) = event.started
    assert operations == ("answer", "status")
    closed(Batch(cancelled=True))  # too late to matter
    assert not ended
    sent(Batch(cancelled=False))
    assert ended == [call]
