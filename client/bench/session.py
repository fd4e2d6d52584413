"""Measures loads one after the other, and stops where going on would say nothing."""

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

# What a load comes to that is more than the server can do: a result. Everything else that fails always is a mistake.
_OVERLOAD: Final = frozenset({"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", NOT_SENT})


@dataclass(frozen=True)
class Measurement:
    """A load and what it showed; incomplete if it was stopped."""

    load: Load
    results: Results
    is_complete: bool


@dataclass(frozen=True)
class Plan:
    """What to measure, in turn; every load is on the server for `warmup_s` before it is measured for `seconds`."""

    served: ModelInfo
    loads: Sequence[Load]
    image_format: AnyFormat
    warmup_s: float
    seconds: float


def run(
    plan: Plan, endpoint: Endpoint, tick: Callable[[Load, float], bool], done: Callable[[Measurement], object]
) -> bool:
    """Measures all loads, on an event loop of its own.

    Args:
        plan: what to measure.
        endpoint: where the server is; must not retry.
        tick: is told now and then what is on, and for how many seconds; true ends it all.
        done: is given each measurement, also that which was stopped.

    Returns:
        Whether all is done.

    Raises:
        GanClientError: the server went away, or refuses every request of a load for what it is.
    """
    # epoll, asyncio's own choice, waits for whole milliseconds; requests are to be sent when they are due.
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
            for status, error in sender.first_errors.items():
                if status not in _OVERLOAD:
                    raise error
        if results is not None:
            done(Measurement(load, results, is_complete))
        if not is_complete:
            return False
    return True
