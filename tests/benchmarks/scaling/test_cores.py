from __future__ import annotations

import pytest
import simpy

from benchmarks.scaling.cores import Cores
from benchmarks.scaling.thread import Steps


def ends(count: int, factor: float, works: list[tuple[float, float, int]]) -> tuple[list[float], Cores]:
    """When works (begin, seconds, threads) end."""
    environment = simpy.Environment()
    cores = Cores(environment, count, factor)
    found = [0.0] * len(works)

    def run(place: int, begin: float, seconds: float, threads: int) -> Steps:
        yield environment.timeout(begin)
        yield cores.work(seconds, threads)
        found[place] = environment.now

    for place, work in enumerate(works):
        environment.process(run(place, *work))
    environment.run()
    return found, cores


@pytest.mark.parametrize(
    ("count", "factor", "works", "expected"),
    [
        pytest.param(2, 1, [(0, 3, 1), (1, 3, 1)], [3, 4], id="a core for each"),
        pytest.param(1, 1, [(0, 3, 1), (1, 1, 1)], [4, 3], id="one core for two"),
        pytest.param(2, 1, [(0, 2, 1)] * 4, [4] * 4, id="two cores for four"),
        pytest.param(2, 1, [(0, 2, 2), (0, 2, 1)], [3, 3], id="an engine on both cores and another thread"),
        pytest.param(2, 1.5, [(0, 2, 1), (0, 2, 1)], [3, 3], id="slower side by side"),
        pytest.param(2, 1.5, [(0, 2, 1)], [2], id="alone at full speed"),
        pytest.param(1, 1, [(5, 0, 1)], [5], id="nothing to do"),
    ],
)
def test_threads_share_the_cores(
    count: int, factor: float, works: list[tuple[float, float, int]], expected: list[float]
) -> None:
    found, _ = ends(count, factor, works)
    assert found == pytest.approx(expected)


def test_busy_time_is_of_all_cores() -> None:
    _, cores = ends(2, 1, [(0, 3, 1), (0, 1, 1)])
    assert cores.busy_core_s == pytest.approx(4)
