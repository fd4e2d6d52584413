"""What is chosen if there was no time to measure all batch sizes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engines.layouts import bf16_layout, bf16_layouts, choose, cpu_layouts
from server.engines.profile import Layout, TunedModel
from tests.server.tuning.measured_tables import amdahl, table_of

RATES = st.floats(1e-2, 1e8)


def onnx(engines: int, threads: int) -> Layout:
    return Layout("onnx", "fp32", engines, threads)


def test_batches_that_there_was_no_time_to_measure_are_computed_all_the_same_and_the_flag_is_named() -> None:
    table = table_of(cpu_layouts(2), amdahl(1e-3, batch_s=1e-3), max_rows=4)
    assert choose(table).limits.max_batch_rows == 4
    choice = choose(table, left_out=dict.fromkeys(cpu_layouts(2), 64))
    assert choice.limits.max_batch_rows == 64
    assert "in batches of 4, the largest measured (up to 64 are computed)" in choice.why
    assert choice.why.endswith("; there was no time to measure all batch sizes: raise --seconds")


def test_batches_that_the_measured_ones_speak_against_are_not_computed() -> None:
    def seconds(layout: Layout, callers: int, rows: int) -> float:
        return rows * 1e-3 * (1 if rows <= 4 else 3) + 5e-3

    choice = choose(table_of(cpu_layouts(2), seconds, max_rows=16), left_out=dict.fromkeys(cpu_layouts(2), 64))
    assert choice.limits.max_batch_rows == 4


@pytest.mark.parametrize(("left_out", "engines"), [({}, 2), ({onnx(1, 2): 64}, 1)])
def test_layouts_are_compared_over_the_sizes_that_there_was_time_for(left_out: dict[Layout, int], engines: int) -> None:
    def seconds(layout: Layout, callers: int, rows: int) -> float:
        return (5e-3 + rows * 1e-3) / layout.threads * (1.2 if layout.engines > 1 else 1)

    table = table_of([onnx(2, 1)], seconds) + table_of([onnx(1, 2)], seconds, max_rows=2)
    choice = choose(table, left_out=left_out)
    assert (choice.layout.engines, choice.limits.max_batch_rows) == (engines, 64)
    assert bf16_layouts(table, 2, left_out)[0] == bf16_layout(choice.layout)


def test_bf16_that_there_was_little_time_for_is_compared_by_that_and_computes_large_batches() -> None:
    reduced = bf16_layout(onnx(1, 1))
    cost = amdahl(10e-3, batch_s=10e-3, bf16=0.25)
    table = table_of([onnx(1, 1)], cost) + table_of([reduced], cost, max_rows=8)
    assert choose(table).limits.large_batch_rows == 8
    choice = choose(table, left_out={reduced: 64})
    assert (choice.limits.large_rows, choice.limits.large_batch_rows) == (1, 64)
    assert re.search(r"; bf16 is \d\.\d\d times as fast and pays in batches of 1 rows and more; there was", choice.why)


@given(data=st.data(), cores=st.sampled_from([1, 2, 6]))
def test_whatever_there_was_time_for_the_choice_is_one_that_can_be_served(data: st.DataObject, cores: int) -> None:
    layouts = [*cpu_layouts(cores), *map(bf16_layout, cpu_layouts(cores))]
    measured = {layout: data.draw(st.sampled_from([1, 2, 4, 8, 16])) for layout in layouts}
    table = [
        cell
        for layout, rows in measured.items()
        for cell in table_of([layout], lambda *_: data.draw(RATES), max_rows=rows)
    ]
    layout, limits, why = choose(table, left_out={layout: 16 for layout, rows in measured.items() if rows < 16})
    assert max(limits.inline_rows, limits.wide_rows) <= limits.max_batch_rows <= 16
    assert ("raise --seconds" in why) == any(rows < 16 for rows in measured.values())
    TunedModel("0" * 64, "cpu", layout.engines, layout.threads, "bf16" if limits.large_rows else "fp32", limits)
    if limits.large_rows is not None:
        assert limits.large_batch_rows is not None
        assert limits.large_rows <= limits.large_batch_rows <= 16
