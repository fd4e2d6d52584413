"""One batch on one instance: put the rows together, compute, deal the results out, and find the row that spoils it.

Runs in an engine's thread (or on the event loop, if the batch is tiny), so it touches nothing that others change.
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

_gathering = threading.Lock()  # held only while arrays are allocated


class BatchObserver(Protocol):
    """What a batcher tells about its batches, on the event loop."""

    def request_waited(self, seconds: float) -> None:
        """The first rows of a request left the queue after so long."""

    def batch_computed(self, batch: BatchTimes) -> None:
        """A batch was computed."""


@dataclass(slots=True)
class BatchResult:
    """What became of a batch: one outcome a part, in order."""

    outcomes: list[Outputs | Exception]
    failed: bool = False  # at least one run did
    instance_broke: bool = False  # it fails on rows that are known to be good, too
    times: list[BatchTimes] = field(default_factory=list)  # of every run that worked


def run_batch(instance: Instance, parts: list[Part]) -> BatchResult:
    """Computes the parts as one batch; never raises.

    If the batch fails, its halves are run on their own, and so on, so that only a part that spoils its batch fails.
    """
    result = BatchResult([])
    _run(instance, parts, result)
    if result.failed and instance.probe is not None:
        try:
            instance.probe()
        except Exception:  # noqa: BLE001 - whatever a runtime raises
            result.instance_broke = True
    return result


def run_alone(instance: Instance, inputs: NDArray[Any], outputs: frozenset[str]) -> tuple[Outputs, BatchTimes]:
    """Computes one request as a batch of its own, in the fewest steps; raises whatever the runtime raises."""
    began = time.perf_counter()
    batch = instance.run(inputs, outputs)
    computed = time.perf_counter()
    rows = _check_rows(inputs, batch)
    return batch, BatchTimes(
        rows, instance.padded_rows(rows), 0.0, computed - began, 0.0, instance.group, instance.cores, 1
    )


def _run(instance: Instance, parts: list[Part], result: BatchResult) -> None:
    if result.failed and all(part.entry.done.done() for part in parts):  # nobody waits for these any more
        result.outcomes.extend({} for _ in parts)
        return
    try:
        outcomes, times = _compute(instance, parts)
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises concerns this batch alone
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
            raise RuntimeError(f"the engine answered {rows} rows with another number of rows, {len(array)}")
    return rows


def _gather(part: Part, outputs: Outputs) -> Outputs:
    """Copies the results of some rows of a request to where all of its results go; engines do so side by side."""
    for name, array in outputs.items():
        _whole(part.entry, name, array)[part.start : part.stop] = array
    return part.entry.gathered


def _whole(entry: Entry, name: str, array: NDArray[Any]) -> NDArray[Any]:
    with _gathering:
        if name not in entry.gathered:
            entry.gathered[name] = np.empty((len(entry.inputs), *array.shape[1:]), array.dtype)
        return entry.gathered[name]
