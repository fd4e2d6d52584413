"""Runs one batch on one instance: gathers the rows, computes, scatters the results, and isolates a failing request.

Runs in a thread of the batcher, or on the event loop if the batch is tiny, so it changes no shared state.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from server.scheduling.instances import Instance
from server.scheduling.queue import Entry, Outputs, Part
from server.statistics import BatchTimes

_allocating = threading.Lock()


class BatchObserver(Protocol):
    """Receives the events of a batcher, on the event loop."""

    def request_waited(self, seconds: float) -> None:
        """The first rows of a request left the queue after `seconds`."""

    def batch_computed(self, batch: BatchTimes) -> None:
        """A batch was computed."""


@dataclass(slots=True)
class BatchResult:
    """The result of a batch: one outcome per part, in order."""

    outcomes: list[Outputs | Exception]
    failed: bool = False  # at least one run failed
    instance_broke: bool = False  # the instance also fails on known good rows
    times: list[BatchTimes] = field(default_factory=list)  # of every run that succeeded


def run_batch(instance: Instance, parts: list[Part]) -> BatchResult:
    """Computes the parts as one batch; never raises.

    If the batch fails, bisects it, so that only the parts that fail on their own fail.
    """
    result = BatchResult([])
    _run(instance, parts, result)
    if result.failed and instance.probe is not None:
        try:
            instance.probe()
        except Exception:  # noqa: BLE001 - a runtime may raise anything
            result.instance_broke = True
    return result


def run_alone(
    instance: Instance, inputs: NDArray[Any], outputs: frozenset[str], requests: int = 1
) -> tuple[Outputs, BatchTimes]:
    """Computes inputs as their own batch, in the fewest steps; raises any error of the runtime.

    Args:
        instance: computes them.
        inputs: shape (rows, ...).
        outputs: names of the wanted outputs.
        requests: the number of requests that the rows belong to.
    """
    began = time.perf_counter()
    batch = instance.run(inputs, outputs)
    computed = time.perf_counter()
    rows = _check_rows(inputs, batch)
    return batch, BatchTimes(
        rows, instance.padded_rows(rows), 0.0, computed - began, 0.0, instance.group, instance.cores, requests
    )


def _run(instance: Instance, parts: list[Part], result: BatchResult) -> None:
    if result.failed and all(part.entry.done.done() for part in parts):  # their clients are gone
        result.outcomes.extend({} for _ in parts)
        return
    try:
        outcomes, times = _compute(instance, parts)
    except Exception as error:  # noqa: BLE001 - a runtime may raise anything
        result.failed = True
        if len(parts) == 1:
            result.outcomes.append(error)
            return
        middle = len(parts) // 2
        _run(instance, parts[:middle], result)
        _run(instance, parts[middle:], result)
    else:
        result.outcomes.extend(outcomes)
        result.times.append(times)


def _compute(instance: Instance, parts: list[Part]) -> tuple[list[Outputs], BatchTimes]:
    began = time.perf_counter()
    alone = len(parts) == 1
    inputs = parts[0].inputs if alone else np.concatenate([part.inputs for part in parts])
    wanted = parts[0].entry.outputs if alone else frozenset[str]().union(*(part.entry.outputs for part in parts))
    gathered = time.perf_counter()
    batch = instance.run(inputs, wanted)
    computed = time.perf_counter()
    rows = _check_rows(inputs, batch)
    outcomes: list[Outputs] = []
    first = 0
    for part in parts:
        last = first + part.rows
        outputs = batch if alone else {name: batch[name][first:last] for name in part.entry.outputs}
        outcomes.append(outputs if part.whole else _gather(part, outputs))
        first = last
    times = BatchTimes(
        rows=rows,
        padded_rows=instance.padded_rows(rows),
        gather_s=gathered - began,
        compute_s=computed - gathered,
        scatter_s=time.perf_counter() - computed,
        group=instance.group,
        cores=instance.cores,
        requests=len(parts),
    )
    return outcomes, times


def _check_rows(inputs: NDArray[Any], batch: Outputs) -> int:
    rows = len(inputs)
    for array in batch.values():
        if len(array) != rows:
            raise RuntimeError(f"the engine returned {len(array)} rows for a batch of {rows}")
    return rows


def _gather(part: Part, outputs: Outputs) -> Outputs:
    """Copies the results of a part into the arrays of its request; several threads may do so at once."""
    for name, array in outputs.items():
        _request_array(part.entry, name, array)[part.start : part.stop] = array
    return part.entry.gathered


def _request_array(entry: Entry, name: str, array: NDArray[Any]) -> NDArray[Any]:
    with _allocating:
        if name not in entry.gathered:
            entry.gathered[name] = np.empty((len(entry.inputs), *array.shape[1:]), array.dtype)
        return entry.gathered[name]
