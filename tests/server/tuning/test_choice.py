from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engines.bf16 import bf16_layout
from server.engines.layouts import Layout, automatic_layout
from server.tuning.choice import Choice, choose, cpu_layouts
from server.tuning.measure import Measured
from tests.server.tuning.measured_tables import BatchSeconds, amdahl, table_of


def onnx(engines: int, threads: int) -> Layout:
    return Layout("onnx", "fp32", engines, threads)


def choice_of(cores: int, seconds: BatchSeconds, *, bf16: bool = False, max_rows: int = 64) -> Choice:
    table = table_of(cpu_layouts(cores), seconds, max_rows)
    if bf16:
        table += table_of([bf16_layout(choose(table, max_rows).layout)], seconds, max_rows)
    return choose(table, max_rows)


@pytest.mark.parametrize(
    ("cores", "engines"),
    [
        *[(1, [1]), (2, [2, 1]), (4, [4, 1, 2]), (9, [4, 1, 3]), (12, [6, 1, 4, 3, 2]), (13, [6, 1])],
        *[(15, [7, 1, 5, 3]), (16, [8, 1, 4, 2])],
    ],
)
def test_every_even_split_of_the_cores_is_measured_starting_with_the_automatic_one(
    cores: int, engines: list[int]
) -> None:
    layouts = cpu_layouts(cores)
    assert [layout.engines for layout in layouts] == engines
    assert layouts == [automatic_layout(cores, layout.engines) for layout in layouts]  # as with --engines
    assert all(layout.engines * layout.threads == cores for layout in layouts[1:])


@pytest.mark.parametrize("cores", [2, 16])
def test_work_that_does_not_parallelise_gets_many_engines(cores: int) -> None:
    assert choice_of(cores, amdahl(10e-3, serial=0.3)).layout == automatic_layout(cores)


def test_on_many_cores_a_few_multithreaded_engines_can_be_best() -> None:
    def seconds(layout: Layout, rows: int) -> float:
        crowding = 1 + max(0, layout.engines - 4)  # as for lack of memory
        return rows * 10e-3 * crowding * (0.1 + 0.9 / layout.threads)

    choice = choice_of(16, seconds)
    assert choice.layout == onnx(4, 4)
    assert "of 2 engines x 8 threads" in choice.why


def test_among_equal_layouts_the_one_with_the_fewest_engines_is_chosen() -> None:
    assert choice_of(4, amdahl(10e-3)).layout == onnx(1, 4)


def test_the_batch_size_is_the_smallest_within_the_tolerance_of_the_best() -> None:
    assert choice_of(2, amdahl(100e-3)).max_batch_rows == 1
    assert choice_of(2, amdahl(1e-3, batch_s=1e-3)).max_batch_rows == 64
    assert choice_of(2, amdahl(10e-3, batch_s=1e-3), max_rows=6).max_batch_rows in (4, 6)


def test_larger_batches_with_a_lower_throughput_are_not_chosen() -> None:
    choice = choice_of(2, lambda layout, rows: rows * 1e-3 * (1 if rows <= 16 else 3) + 5e-3)
    assert choice.max_batch_rows == 16
    assert "in batches of 16, because larger ones gain less than 3%" in choice.why


@pytest.mark.parametrize(("bf16", "precision"), [(0.5, "bf16"), (0.95, "fp32"), (1.3, "fp32")])
def test_bf16_is_used_only_if_it_is_clearly_faster(bf16: float, precision: str) -> None:
    choice = choice_of(2, amdahl(10e-3, bf16=bf16), bf16=True)
    assert choice.precision == precision
    assert re.search(r"; bf16 changes the throughput by a factor of \d\.\d\d$", choice.why)


def test_bf16_may_have_larger_batches_than_fp32() -> None:
    def seconds(layout: Layout, rows: int) -> float:
        fp32_s = rows * 10e-3 / layout.threads
        return 15e-3 + 0.4 * fp32_s if layout.precision == "bf16" else fp32_s

    assert choice_of(1, seconds).max_batch_rows < 4
    assert choice_of(1, seconds, bf16=True).max_batch_rows == 64


def test_bf16_of_another_layout_is_ignored() -> None:
    table = table_of(cpu_layouts(4), amdahl(10e-3))
    table += table_of([bf16_layout(automatic_layout(4))], amdahl(10e-3, bf16=0.1))
    choice = choose(table, 64)
    assert (choice.layout, choice.precision) == (onnx(1, 4), "fp32")
    assert "bf16" not in choice.why


def test_a_table_without_fp32_is_refused() -> None:
    with pytest.raises(ValueError, match="fp32"):
        choose(table_of([Layout("torchscript", "bf16", 1, 2)], amdahl(1e-3)), 64)


def test_a_table_of_one_cell_gives_a_choice() -> None:
    choice = choose([Measured(onnx(4, 1), 1, 35.0)], 64)
    assert (choice.layout, choice.max_batch_rows) == (onnx(4, 1), 1)


def test_batch_sizes_not_measured_in_time_are_allowed_and_the_flag_is_named() -> None:
    table = table_of(cpu_layouts(2), amdahl(1e-3, batch_s=1e-3), max_rows=4)
    assert choose(table, 64).max_batch_rows == 4
    choice = choose(table, 64, set(cpu_layouts(2)))
    assert choice.max_batch_rows == 64
    assert "in batches of 4, the largest measured" in choice.why
    assert choice.why.endswith("; there was no time to measure all batch sizes: raise --seconds")


def test_unmeasured_batch_sizes_are_not_allowed_if_smaller_ones_are_already_as_good() -> None:
    table = table_of(cpu_layouts(2), lambda layout, rows: rows * 1e-3 * (1 if rows <= 4 else 3) + 5e-3, max_rows=16)
    assert choose(table, 64, set(cpu_layouts(2))).max_batch_rows == 4


def test_layouts_are_compared_at_their_common_batch_sizes() -> None:
    def seconds(layout: Layout, rows: int) -> float:
        return (5e-3 + rows * 1e-3) / layout.threads * (1.2 if layout.engines > 1 else 1)

    table = table_of([onnx(2, 1)], seconds) + table_of([onnx(1, 2)], seconds, max_rows=2)
    choice = choose(table, 64, {onnx(1, 2)})
    assert (choice.layout.engines, choice.max_batch_rows) == (1, 64)


RATES = st.floats(1e-2, 1e8)


@given(data=st.data(), cores=st.sampled_from([1, 2, 6]))
def test_any_table_gives_a_choice_that_can_be_served(data: st.DataObject, cores: int) -> None:
    layouts = [*cpu_layouts(cores), *map(bf16_layout, cpu_layouts(cores))]
    measured = {layout: data.draw(st.sampled_from([1, 2, 4, 8, 16])) for layout in layouts}
    table = [
        cell
        for layout, rows in measured.items()
        for cell in table_of([layout], lambda *_: data.draw(RATES), max_rows=rows)
    ]
    choice = choose(table, 16, {layout for layout, rows in measured.items() if rows < 16})
    assert choice.layout in cpu_layouts(cores)
    assert 1 <= choice.max_batch_rows <= 16
    assert "\n" not in choice.why
