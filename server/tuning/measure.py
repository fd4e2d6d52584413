"""Measures the throughput of the layouts of a model within a time budget.

The clock, the engines and the threads are arguments, so tests can measure engines that take no real time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from ganserve.bundle import OUTPUT_PIXELS, BundleError, Card, example_rows
from ganserve.foreign import first_line
from ganserve.wording import counted
from server.engines.layouts import Layout
from server.engines.loading import failures_as_bundle_errors
from server.scheduling.instances import Instance, close_instances

_log = logging.getLogger(__name__)
_PIXELS: Final = frozenset({OUTPUT_PIXELS})
_MIN_S: Final = 1e-9  # per run, for coarse clocks

Task = Callable[[], float]
LoadGroup = Callable[[Layout], Sequence[Instance]]  # returns one warm instance per engine


class Measured(NamedTuple):
    """The throughput of a layout while all its engines compute batches of one size."""

    layout: Layout
    rows: int  # per batch
    images_per_s: float  # of all engines together

    @property
    def batch_s(self) -> float:
        """Seconds per batch."""
        return self.layout.engines * self.rows / self.images_per_s


class Measurements(NamedTuple):
    """All measurements of a model."""

    table: list[Measured]
    cut_short: set[Layout]  # those whose largest batches were not measured for lack of time


def run_side_by_side(tasks: Sequence[Task]) -> list[float]:
    """Runs tasks at once, each in its own thread, and returns their results."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Task) -> float:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


@dataclass(frozen=True)
class Bench:
    """The clock and the threads to measure with."""

    clock: Callable[[], float] = time.perf_counter
    side_by_side: Callable[[Sequence[Task]], list[float]] = run_side_by_side


def measure_model(
    card: Card,
    layouts: Sequence[Layout],
    sizes: Sequence[int],
    load: LoadGroup,
    seconds: float,
    report: Callable[[Measured], None],
    bench: Bench,
) -> Measurements:
    """Measures every layout at every batch size, with all its engines busy.

    Splits the time evenly over the layouts, and that of each over its batch sizes. Skips batches for which too little
    time is left, but measures the smallest batch of every layout that it starts, and always starts the first layout.

    Args:
        card: card of the model.
        layouts: the most important first.
        sizes: rows per batch, ascending.
        load: makes the instances of a layout; they are closed at the end.
        seconds: time budget, excluding loading.
        report: called with each measurement.
        bench: the clock and the threads.

    Raises:
        BundleError: the version is broken.
        StartupError: the device or the backend is not available.
    """
    found = Measurements([], set())
    spent_s = 0.0
    for index, layout in enumerate(layouts):
        if found.table and spent_s >= seconds:
            break
        with failures_as_bundle_errors():
            instances = load(layout)
        began = bench.clock()
        try:
            run = _LayoutRun(card, layout, instances, began + (seconds - spent_s) / (len(layouts) - index), bench)
            for cell in run.measure(sizes):
                found.table.append(cell)
                report(cell)
            if run.cut_short:
                found.cut_short.add(layout)
        finally:
            close_instances(instances)
            spent_s += bench.clock() - began
    return found


@dataclass
class _LayoutRun:
    card: Card
    layout: Layout
    instances: Sequence[Instance]
    deadline: float  # on the bench's clock
    bench: Bench
    cut_short: bool = False

    def measure(self, sizes: Sequence[int]) -> Iterator[Measured]:
        """Yields a measurement for each batch size that fits into the time."""
        row_s = 0.0
        for index, rows in enumerate(sizes):
            left_s = self.deadline - self.bench.clock()
            if index and row_s * rows > left_s:
                self.cut_short = True
                return
            try:
                rate = self._rate(rows, left_s / (len(sizes) - index))
            except Exception as error:
                reason = f"the graph fails on {counted(rows, 'row')} ({first_line(error)})"
                if not index:
                    raise BundleError(f"{reason}; export the model again") from error
                _log.warning("%s: %s, so larger batches are not measured", self.card.name, reason)
                return
            row_s = self.layout.engines / rate
            yield Measured(self.layout, rows, rate)

    def _rate(self, rows: int, seconds: float) -> float:
        """Images per second; the first run warms up, and counts only if there is no time for another."""
        inputs = example_rows(self.card.input, 0, rows)
        began = self.bench.clock()
        warming = self._run(inputs, 0.0)
        took_s = self.bench.clock() - began
        if self.deadline - self.bench.clock() < took_s:
            return warming
        return self._run(inputs, seconds - took_s)

    def _run(self, inputs: NDArray[Any], seconds: float) -> float:
        def task(instance: Instance) -> Task:
            return lambda: self._repeat(instance, inputs, seconds)

        return sum(self.bench.side_by_side([task(instance) for instance in self.instances]))

    def _repeat(self, instance: Instance, inputs: NDArray[Any], seconds: float) -> float:
        """Runs one instance again and again, at least once; returns images per second."""
        clock, began, runs = self.bench.clock, self.bench.clock(), 0
        while True:
            instance.run(inputs, _PIXELS)
            runs += 1
            if (taken_s := clock() - began) >= seconds:
                return runs * len(inputs) / max(taken_s, _MIN_S)
