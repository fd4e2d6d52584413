from __future__ import annotations

import logging
import threading

import pytest

from ganserve.bundle import BundleError
from server.engines.layouts import Layout, batch_sizes
from server.tuning.choice import cpu_layouts
from server.tuning.measure import Bench, Measured, Measurements, measure_model, run_side_by_side
from tests.server.scheduling.fake_instances import Cost, FakeTime
from tests.server.tiny_cards import GENERATOR

SIZES = batch_sizes(64)
LAYOUTS = cpu_layouts(4)


def rows_cost(row_s: float, batch_s: float = 0.0) -> Cost:
    return lambda layout, rows: batch_s + rows * row_s / layout.threads


def measure_all(
    world: FakeTime, cost: Cost, seconds: float, layouts: list[Layout] = LAYOUTS, load_s: float = 0.0
) -> Measurements:
    reported: list[Measured] = []
    load = world.loader(cost, load_s)
    measurements = measure_model(GENERATOR, layouts, SIZES, load, seconds, reported.append, world.bench)
    assert measurements.table == reported
    return measurements


def measure(
    world: FakeTime, cost: Cost, seconds: float, layouts: list[Layout] = LAYOUTS, load_s: float = 0.0
) -> list[Measured]:
    return measure_all(world, cost, seconds, layouts, load_s).table


def test_every_layout_is_measured_at_every_size_with_all_its_engines_busy() -> None:
    world = FakeTime()
    table = measure(world, rows_cost(1e-4, 1e-4), 3)
    assert [(cell.layout, cell.rows) for cell in table] == [(layout, rows) for layout in LAYOUTS for rows in SIZES]
    for cell in table:
        assert cell.batch_s == pytest.approx(1e-4 + cell.rows * 1e-4 / cell.layout.threads)
        assert cell.images_per_s == pytest.approx(cell.layout.engines * cell.rows / cell.batch_s)


def test_the_first_run_of_a_size_is_not_counted_if_there_is_time_for_another() -> None:
    world = FakeTime()
    seen: set[tuple[Layout, int]] = set()

    def slow_at_first(layout: Layout, rows: int) -> float:
        first = (layout, rows) not in seen
        seen.add((layout, rows))
        return 5e-3 if first else 1e-3

    (one,) = [c for c in measure(world, slow_at_first, 20, [LAYOUTS[1]]) if c.rows == 1]
    assert one.batch_s == pytest.approx(1e-3)


@pytest.mark.parametrize("row_s", [1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("seconds", [0.5, 5.0])
def test_the_time_budget_is_used_and_exceeded_by_at_most_two_batches_per_layout(row_s: float, seconds: float) -> None:
    world = FakeTime()
    table = measure(world, rows_cost(row_s), seconds)
    longest = max(cell.batch_s for cell in table)
    assert world.now <= seconds + 2 * len(LAYOUTS) * longest
    if row_s == 1e-3:
        assert world.now >= 0.9 * seconds


def test_the_time_is_split_fairly_over_the_layouts() -> None:
    world = FakeTime()
    ends: dict[Layout, float] = {}
    load = world.loader(rows_cost(1e-3))

    def note(cell: Measured) -> None:
        ends[cell.layout] = world.now

    measure_model(GENERATOR, LAYOUTS, SIZES, load, 3.0, note, world.bench)
    assert [ends[layout] for layout in LAYOUTS] == pytest.approx([1, 2, 3], rel=0.1)


def test_loading_does_not_count_towards_the_time_budget() -> None:
    world = FakeTime()
    measure(world, rows_cost(1e-3), 3.0, load_s=100.0)
    assert 300 < world.now < 305


def test_a_slow_model_gets_fewer_cells_but_each_started_layout_its_smallest() -> None:
    world = FakeTime()
    table = measure(world, rows_cost(0.5), 12.0)
    assert max(cell.rows for cell in table) < 64
    assert {cell.layout for cell in table if cell.rows == 1} == set(LAYOUTS)


@pytest.mark.parametrize(("row_s", "cut_short"), [(0.5, set(LAYOUTS)), (1e-3, set())])
def test_layouts_whose_larger_batches_were_not_measured_are_reported(row_s: float, cut_short: set[Layout]) -> None:
    assert measure_all(FakeTime(), rows_cost(row_s), 12.0).cut_short == cut_short


def test_a_very_slow_model_has_one_layout_measured_at_one_row() -> None:
    world = FakeTime()
    table = measure(world, rows_cost(100.0), 1.0)
    assert [(cell.layout, cell.rows) for cell in table] == [(LAYOUTS[0], 1)]
    assert len(world.runs) == 4
    assert world.loaded == LAYOUTS[:1]


def test_instances_are_closed_before_the_next_layout_is_loaded() -> None:
    world = FakeTime()
    load = world.loader(rows_cost(1e-3))

    def load_alone(layout: Layout) -> object:
        assert world.closed == sum(other.engines for other in world.loaded)
        return load(layout)

    measure_model(GENERATOR, LAYOUTS, SIZES, load_alone, 1.0, lambda _: None, world.bench)  # type: ignore[arg-type]
    assert world.closed == 4 + 1 + 2


def test_a_failing_batch_ends_its_layout_but_not_the_model(caplog: pytest.LogCaptureFixture) -> None:
    def too_large(layout: Layout, rows: int) -> float:
        if rows > 8:
            raise MemoryError("no room\nfor it")
        return 1e-3

    world = FakeTime()
    with caplog.at_level(logging.WARNING):
        table, cut_short = measure_all(world, too_large, 5.0)
    assert [(cell.layout, cell.rows) for cell in table] == [
        (layout, rows) for layout in LAYOUTS for rows in (1, 2, 4, 8)
    ]
    assert cut_short == set()
    assert "fails on 16 rows (MemoryError: no room), so larger batches are not measured" in caplog.messages[0]
    assert world.closed == 7


def test_a_graph_that_fails_on_one_row_is_broken() -> None:
    def broken(layout: Layout, rows: int) -> float:
        raise RuntimeError("no such node")

    world = FakeTime()
    with pytest.raises(BundleError, match=r"fails on 1 row \(RuntimeError: no such node\); export the model again"):
        measure(world, broken, 5.0)
    assert world.closed == 4


def test_a_layout_that_cannot_be_loaded_is_an_error() -> None:
    def load(layout: Layout) -> list[object]:
        raise BundleError("changed")

    with pytest.raises(BundleError, match="changed"):
        measure_model(GENERATOR, LAYOUTS, SIZES, load, 1.0, lambda _: None, Bench())  # type: ignore[arg-type]


def test_tasks_run_in_parallel() -> None:
    together = threading.Barrier(3)

    def task() -> float:
        return float(together.wait(timeout=30) >= 0)

    assert run_side_by_side([task] * 3) == [1.0] * 3


def test_a_task_that_fails_raises() -> None:
    def fail() -> float:
        raise MemoryError

    with pytest.raises(MemoryError):
        run_side_by_side([fail, lambda: 1.0])
