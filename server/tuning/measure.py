"""Measures how fast the layouts of a model are, within a budget of time. Decides nothing and shows nothing.

Clock, engines and threads are given, so that tests can measure engines that cost no real time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from ganserve.bundle import OUTPUT_PIXELS, BundleError, Card, example_rows
from ganserve.foreign import first_line
from server.engines.loading import unforeseen_is_broken
from server.engines.profile import Layout, Measured
from server.errors import StartupError
from server.scheduling.instances import Instance, close_instances

_log = logging.getLogger(__name__)
_PIXELS: Final = frozenset({OUTPUT_PIXELS})
_MIN_S: Final = 1e-9  # of a run, for clocks that are coarser

Task = Callable[[], float]
LoadGroup = Callable[[Layout], Sequence[Instance]]  # one an engine, warm
# What to measure in reduced precision, given what was measured in fp32, as in `Measurements`.
FindVariants = Callable[[Sequence[Measured], Mapping[Layout, int]], Sequence[Layout]]


class Measurements(NamedTuple):
    """What was measured of a model, and what was not."""

    table: list[Measured]
    left_out: dict[Layout, int]  # the largest batch of each layout for whose larger batches there was no time


def run_side_by_side(tasks: Sequence[Task]) -> list[float]:
    """Runs tasks at once, in a thread each, and returns what they return."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Task) -> float:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


@dataclass(frozen=True)
class Bench:
    """What measuring needs besides engines."""

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
    *,
    find_variants: FindVariants | None = None,
) -> Measurements:
    """Measures every layout at every batch size, with as many callers as it has engines and with one.

    The time is split evenly over the layouts and over what is left of each; batches that would not fit in the rest are
    left out, but every layout that is begun has its smallest batch measured, and the first one always is. A layout in
    reduced precision that cannot be measured is left out, as it would be when serving.

    Args:
        card: of the model.
        layouts: in fp32, in the order of their importance.
        sizes: of batches, in rows, ascending.
        load: makes the instances of a layout, which are closed at the end.
        seconds: to measure for; loading comes on top.
        report: told each measurement at once.
        bench: the clock, and the threads.
        find_variants: told what was measured of all these layouts, says which to measure after them.

    Raises:
        BundleError: the version is broken.
        StartupError: the device or the backend cannot be had.
    """
    table: list[Measured] = []
    left_out: dict[Layout, int] = {}
    spent_s = 0.0

    def measure(layout: Layout, shares: int) -> None:
        nonlocal spent_s
        with unforeseen_is_broken():
            instances = load(layout)
        began = bench.clock()
        deadline = began + (seconds - spent_s) / shares
        try:
            run = _LayoutRun(card, layout, instances, deadline, bench)
            for cell in run.measure(sizes):
                table.append(cell)
                report(cell)
            if run.cut_short:
                left_out[layout] = sizes[-1]
        finally:
            close_instances(instances)
            spent_s += bench.clock() - began

    kept = 0 if find_variants is None else 1
    for index, layout in enumerate(layouts):
        if table and spent_s >= seconds:
            return Measurements(table, left_out)
        measure(layout, len(layouts) - index + kept)
    variants = () if find_variants is None or spent_s >= seconds else find_variants(table, left_out)
    for index, layout in enumerate(variants):
        if spent_s >= seconds:
            break
        try:
            measure(layout, len(variants) - index)
        except (BundleError, StartupError) as error:
            _log.warning("%s is not measured in %s: %s", card.name, layout.precision, error)
    return Measurements(table, left_out)


@dataclass
class _LayoutRun:
    card: Card
    layout: Layout
    instances: Sequence[Instance]
    deadline: float  # of the clock
    bench: Bench
    cut_short: bool = False  # there was no time for the larger batches

    def measure(self, sizes: Sequence[int]) -> Iterator[Measured]:
        """Yields a `Measured` for each cell that fits in the time."""
        cells = [(rows, callers) for rows in sizes for callers in sorted({1, self.layout.engines})]
        seconds_a_row: dict[int, float] = {}  # by the number of callers
        for index, (rows, callers) in enumerate(cells):
            left_s = self.deadline - self.bench.clock()
            if rows > sizes[0] and seconds_a_row[callers] * rows > left_s:
                self.cut_short = True
                return
            try:
                rate = self._rate(rows, callers, left_s / (len(cells) - index))
            except Exception as error:
                reason = f"the graph fails on {rows} rows ({first_line(error)})"
                if rows == sizes[0]:
                    raise BundleError(f"{reason}; export the model again") from error
                _log.warning("%s: %s, so larger batches are not measured", self.card.name, reason)
                return
            seconds_a_row[callers] = callers / rate
            yield Measured(self.layout, callers, rows, rate)

    def _rate(self, rows: int, callers: int, seconds: float) -> float:
        """Images a second; the first run of each caller warms up, and counts only if there is no time for another."""
        inputs = example_rows(self.card.input, 0, rows)
        began = self.bench.clock()
        warming = self._run(inputs, callers, 0.0)
        took_s = self.bench.clock() - began
        if self.deadline - self.bench.clock() < took_s:
            return warming
        return self._run(inputs, callers, seconds - took_s)

    def _run(self, inputs: NDArray[Any], callers: int, seconds: float) -> float:
        def task(instance: Instance) -> Task:
            return lambda: self._repeat(instance, inputs, seconds)

        return sum(self.bench.side_by_side([task(instance) for instance in self.instances[:callers]]))

    def _repeat(self, instance: Instance, inputs: NDArray[Any], seconds: float) -> float:
        """Runs one instance again and again, at least once; returns images a second."""
        clock, began, runs = self.bench.clock, self.bench.clock(), 0
        while True:
            instance.run(inputs, _PIXELS)
            runs += 1
            if (taken_s := clock() - began) >= seconds:
                return runs * len(inputs) / max(taken_s, _MIN_S)
