"""Measures loads one after another, and stops if every request of one fails."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from client.bench.loads import Load
from client.bench.loops import ServerLost, measure
from client.bench.requests import Sender, requests_of
from client.bench.results import NOT_SENT, Results
from client.sdk.channel import Endpoint
from client.sdk.messages import AnyFormat
from client.sdk.model_info import ModelInfo

# Statuses of an overloaded server are a result. If all requests of a load fail with other statuses, the run stops.
_OVERLOAD: Final = frozenset({"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", NOT_SENT})


@dataclass(frozen=True)
class Measurement:
    """A load and its results; incomplete if it was stopped."""

    load: Load
    results: Results
    is_complete: bool


@dataclass(frozen=True)
class Plan:
    """The loads to measure in turn. Each runs for `warmup_s` before it is measured for `seconds`."""

    served: ModelInfo
    loads: Sequence[Load]
    image_format: AnyFormat
    warmup_s: float
    seconds: float


def run(
    plan: Plan, endpoint: Endpoint, tick: Callable[[Load, float], bool], done: Callable[[Measurement], object]
) -> bool:
    """Measures all loads on a new event loop.

    Args:
        plan: The loads.
        endpoint: The server, with retries disabled.
        tick: Called regularly with the current load and its seconds so far; if it returns True, the run ends.
        done: Called with each measurement, including one that was stopped.

    Returns:
        Whether all loads ran to their end.

    Raises:
        GanClientError: The server is gone, or every request of a load fails for a reason other than overload.
    """
    # select, because epoll's timeouts are whole milliseconds, too coarse to send requests on time.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_run(plan, endpoint, tick, done))


async def _run(
    plan: Plan, endpoint: Endpoint, tick: Callable[[Load, float], bool], done: Callable[[Measurement], object]
) -> bool:
    for load in plan.loads:
        requests = requests_of(plan.served, load.rows, plan.image_format)
        sender = Sender(endpoint, requests, load.rows)
        try:
            results, is_complete = await measure(
                load,
                sender.send,
                warmup_s=plan.warmup_s,
                seconds=plan.seconds,
                tick=lambda passed_s, load=load: tick(load, passed_s),  # type: ignore[misc]  # bound now
            )
        except ServerLost:
            raise sender.first_errors["UNAVAILABLE"] from None
        finally:
            await sender.close()
        if results is not None and not results.answered:
            for status in results.errors:  # of the measured time; the warm-up may have failed in other ways
                if status not in _OVERLOAD:
                    raise sender.first_errors[status]
        if results is not None:
            done(Measurement(load, results, is_complete))
        if not is_complete:
            return False
    return True
