"""Instances that take fake time, and the clock and threads to measure them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from server.engines.layouts import Layout
from server.scheduling.instances import Instance
from server.scheduling.queue import Outputs
from server.tuning.measure import Bench, Task

Cost = Callable[[Layout, int], float]  # seconds per batch, by its rows


class FakeTime:
    """A clock that only runs advance, and tasks that run in sequence as if they ran in parallel."""

    def __init__(self) -> None:
        self.now = 0.0
        self.loaded: list[Layout] = []
        self.closed = 0
        self.runs: list[tuple[Layout, int]] = []

    @property
    def bench(self) -> Bench:
        return Bench(lambda: self.now, self.side_by_side)

    def side_by_side(self, tasks: Sequence[Task]) -> list[float]:
        began, ended, results = self.now, self.now, []
        for task in tasks:
            self.now = began
            results.append(task())
            ended = max(ended, self.now)
        self.now = ended
        return results

    def loader(self, cost: Cost, load_s: float = 0.0) -> Callable[[Layout], list[Instance]]:
        def load(layout: Layout) -> list[Instance]:
            self.loaded.append(layout)
            self.now += load_s

            def run(inputs: NDArray[Any], outputs: frozenset[str]) -> Outputs:
                self.runs.append((layout, len(inputs)))
                self.now += cost(layout, len(inputs))
                return dict.fromkeys(outputs, inputs)

            return [Instance("fake", run, close=self._close) for _ in range(layout.engines)]

        return load

    def _close(self) -> None:
        self.closed += 1
