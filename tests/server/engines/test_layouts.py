from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engines.layouts import (
    MAX_NARROW_INSTANCES,
    automatic_layout,
    bf16_layout,
    bf16_layouts,
    choose,
    cpu_layouts,
    rows_within,
    seconds_for,
)
from server.engines.profile import Layout, Limits, Measured, TunedModel
from tests.server.tuning.measured_tables import BatchSeconds, amdahl, table_of


def onnx(engines: int, threads: int) -> Layout:
    return Layout("onnx", "fp32", engines, threads)


def bf16_table(cores: int, seconds: BatchSeconds, max_rows: int = 64) -> list[Measured]:
    """As measured: in fp32, and then in bf16 where that says so."""
    table = table_of(cpu_layouts(cores), seconds, max_rows)
    return table + table_of(bf16_layouts(table, cores), seconds, max_rows)


def limits_of(cores: int, seconds: BatchSeconds, *, bf16: bool = False, max_rows: int = 64) -> Limits:
    table = bf16_table(cores, seconds, max_rows) if bf16 else table_of(cpu_layouts(cores), seconds, max_rows)
    return choose(table).limits


@pytest.mark.parametrize(
    ("cores", "engines"),
    [
        *[(1, [1]), (2, [2, 1]), (4, [4, 1, 2]), (9, [4, 1, 3]), (12, [6, 1, 4, 3, 2]), (13, [6, 1])],
        *[(15, [7, 1, 5, 3]), (16, [8, 1, 4, 2])],
    ],
)
def test_every_even_split_of_the_cores_is_measured_and_the_automatic_one_first(cores: int, engines: list[int]) -> None:
    layouts = cpu_layouts(cores)
    assert [layout.engines for layout in layouts] == engines
    assert layouts[0] == automatic_layout(cores)
    assert all(layout.engines * layout.threads <= cores for layout in layouts)
    assert all(layout.engines * layout.threads == cores for layout in layouts[1:])


@pytest.mark.parametrize("cores", range(1, 65))
def test_without_a_profile_fewer_cores_are_left_idle_than_one_engine_has(cores: int) -> None:
    layout = automatic_layout(cores)
    assert layout.engines <= MAX_NARROW_INSTANCES
    assert 0 <= cores - layout.engines * layout.threads < layout.threads
    assert layout.threads == 1 or cores > MAX_NARROW_INSTANCES


def test_bf16_is_measured_beside_the_layout_that_suits_fp32_and_beside_the_automatic_one() -> None:
    automatic = Layout("torchscript", "bf16", 4, 1)
    assert bf16_layouts(table_of(cpu_layouts(4), amdahl(10e-3, serial=0.3)), 4) == [automatic]
    table = table_of(cpu_layouts(4), amdahl(10e-3))
    assert choose(table).layout == onnx(1, 4)
    assert bf16_layouts(table, 4) == [Layout("torchscript", "bf16", 1, 4), automatic]


@pytest.mark.parametrize("cores", [2, 8, 16])
def test_work_that_does_not_spread_over_threads_is_done_by_many_engines(cores: int) -> None:
    choice = choose(table_of(cpu_layouts(cores), amdahl(10e-3, serial=0.3)))
    assert choice.layout == automatic_layout(cores)
    assert choice.limits.wide_rows > 0  # a lone row is answered sooner by all cores
    assert "on all cores" in choice.why


def test_on_many_cores_a_few_engines_of_some_threads_can_be_best() -> None:
    def seconds(layout: Layout, callers: int, rows: int) -> float:
        crowding = 1 + max(0, callers - 4)  # for the memory, say
        return rows * 10e-3 * crowding * (0.1 + 0.9 / layout.threads)

    choice = choose(table_of(cpu_layouts(16), seconds))
    assert choice.layout == onnx(4, 4)
    assert "of 2 engines x 8 threads" in choice.why


def test_of_layouts_that_are_as_good_the_one_with_the_fewest_engines_is_taken_as_it_answers_sooner() -> None:
    choice = choose(table_of(cpu_layouts(4), amdahl(10e-3)))
    assert choice.layout == onnx(1, 4)
    assert choice.limits.wide_rows == 0


def test_one_core_has_one_engine() -> None:
    choice = choose(table_of(cpu_layouts(1), amdahl(10e-3)))
    assert (choice.layout, choice.limits.wide_rows) == (onnx(1, 1), 0)


def test_a_tiny_model_is_computed_on_the_event_loop_and_never_shared_out() -> None:
    limits = limits_of(2, amdahl(1e-6, serial=0.9, batch_s=20e-6))
    assert limits.inline_rows == limits.max_batch_rows == 64
    assert limits.min_share_rows > 64
    assert limits.wide_rows == 0


def test_a_middling_model_is_computed_inline_only_as_long_as_that_is_quick() -> None:
    limits = limits_of(2, amdahl(50e-6, serial=0.9))
    assert limits.inline_rows in (3, 4)
    assert limits.min_share_rows in (10, 11)


def test_a_wide_engine_that_gains_nothing_is_not_used() -> None:
    limits = limits_of(4, amdahl(10e-3, serial=0.97))
    assert limits.wide_rows == 0


def test_rows_that_can_be_spread_over_all_engines_are_not_given_to_the_wide_one() -> None:
    assert limits_of(8, amdahl(10e-3, serial=0.2)).wide_rows < 8


@pytest.mark.parametrize(("bf16", "large_rows"), [(0.5, 1), (1.3, None), (1.0, None)])
def test_bf16_is_used_only_if_it_is_faster(bf16: float, large_rows: int | None) -> None:
    choice = choose(bf16_table(2, amdahl(10e-3, bf16=bf16)))
    assert choice.limits.large_rows == large_rows
    assert (choice.limits.large_batch_rows is None) == (large_rows is None)
    assert ("never pays" in choice.why) == (large_rows is None)


def test_bf16_that_starts_slowly_is_used_for_large_batches_and_may_have_larger_ones_than_fp32() -> None:
    def seconds(layout: Layout, callers: int, rows: int) -> float:
        fp32_s = rows * 10e-3 / layout.threads
        return 15e-3 + 0.4 * fp32_s if layout.precision == "bf16" else fp32_s

    limits = limits_of(1, seconds, bf16=True)
    assert limits.large_rows == 4  # 40 ms in fp32, 31 ms in bf16
    assert limits.max_batch_rows < 4
    assert limits.large_batch_rows == 64


@pytest.mark.parametrize("serial", [0.0, 0.5])
def test_a_share_in_bf16_is_compared_with_the_same_share_in_fp32_while_all_instances_are_busy(serial: float) -> None:
    def seconds(layout: Layout, callers: int, rows: int) -> float:
        one_s = rows * 1e-3 * (serial + (1 - serial) / layout.threads)
        if layout.precision == "fp32":
            return one_s
        return one_s / 2 if callers < layout.engines else one_s * (2 if rows < 16 else 0.25)  # in each other's way

    layout, limits, why = choose(bf16_table(4, seconds))
    assert layout.engines == (4 if serial else 1)
    assert limits.large_rows == 16
    assert re.search(r"; bf16 is 3\.[89]\d times as fast and pays in batches of 16 rows and more$", why)


def test_bf16_that_was_measured_beside_another_layout_alone_says_nothing() -> None:
    table = table_of(cpu_layouts(4), amdahl(10e-3))
    table += table_of([bf16_layout(automatic_layout(4))], amdahl(10e-3, bf16=0.1))
    choice = choose(table)
    assert (choice.layout, choice.limits.large_rows) == (onnx(1, 4), None)
    assert "bf16" not in choice.why


def test_bf16_that_is_slow_in_batches_larger_than_it_gets_is_used_all_the_same() -> None:
    def seconds(layout: Layout, callers: int, rows: int) -> float:
        fp32_s = rows * 10e-3 / layout.threads
        if layout.precision == "fp32":
            return fp32_s
        return fp32_s * (0.4 if rows <= 32 else 1.5) + 5e-3  # out of the cache, say

    limits = limits_of(1, seconds, bf16=True)
    assert limits.large_rows == 1
    assert limits.large_batch_rows in (16, 32)


def test_rows_that_fp32_takes_in_several_batches_are_compared_with_those() -> None:
    def seconds(layout: Layout, callers: int, rows: int) -> float:
        if layout.precision == "bf16":
            return 12e-3 + rows * 0.5e-3
        return rows * 1e-3 * (1 if rows <= 4 else 10)

    # 16 rows take bf16 20 ms, and fp32 160 ms at once, but it never computes more than 4 at once, and so takes 16 ms.
    limits = limits_of(1, seconds, bf16=True)
    assert limits.max_batch_rows == 4
    assert limits.large_rows == 32


def test_bf16_that_wins_only_where_fp32_is_not_at_its_best_is_not_used() -> None:
    def seconds(layout: Layout, callers: int, rows: int) -> float:
        if layout.precision == "bf16":
            return rows * 5e-3
        return rows * 1e-3 if rows == 64 else rows * 20e-3

    assert limits_of(2, seconds, bf16=True).large_rows is None


def test_the_smallest_batch_that_is_about_as_good_as_the_best_is_the_largest_taken() -> None:
    assert limits_of(2, amdahl(100e-3)).max_batch_rows == 1
    assert limits_of(2, amdahl(1e-3, batch_s=1e-3)).max_batch_rows == 64
    assert limits_of(2, amdahl(10e-3, batch_s=1e-3), max_rows=6).max_batch_rows in (4, 6)


def test_batches_that_grow_slower_are_not_taken() -> None:
    def seconds(layout: Layout, callers: int, rows: int) -> float:
        return rows * 1e-3 * (1 if rows <= 16 else 3) + 5e-3

    assert limits_of(2, seconds).max_batch_rows == 16


def test_a_table_that_time_cut_short_still_gives_a_choice() -> None:
    table = [Measured(onnx(4, 1), 1, 1, 10.0), Measured(onnx(4, 1), 4, 1, 35.0)]
    choice = choose(table)
    assert (choice.layout, choice.limits.max_batch_rows, choice.limits.wide_rows) == (onnx(4, 1), 1, 0)


def test_nothing_runs_inline_on_cuda() -> None:
    table = table_of([onnx(1, 1)], amdahl(1e-6))
    assert choose(table, "cpu").limits.inline_rows > 0
    assert choose(table, "cuda:0").limits.inline_rows == 0


def test_a_table_without_fp32_is_refused() -> None:
    with pytest.raises(ValueError, match="fp32"):
        choose(table_of([Layout("torchscript", "bf16", 1, 2)], amdahl(1e-3)))


RATES = st.floats(1e-2, 1e8)


@given(data=st.data(), cores=st.sampled_from([1, 2, 6, 16]), bf16=st.booleans(), most=st.integers(1, 64))
def test_whatever_was_measured_the_choice_is_one_that_can_be_served(
    data: st.DataObject, cores: int, bf16: bool, most: int
) -> None:
    def seconds(*_: object) -> float:
        return data.draw(RATES)

    table = bf16_table(cores, seconds, most) if bf16 else table_of(cpu_layouts(cores), seconds, most)
    layout, limits, why = choose(table)
    assert layout.engines * layout.threads <= cores
    assert limits.inline_rows <= limits.max_batch_rows <= most
    assert limits.wide_rows < layout.engines or limits.wide_rows == 0
    assert "\n" not in why
    TunedModel("0" * 64, "cpu", layout.engines, layout.threads, "bf16" if limits.large_rows else "fp32", limits)
    if limits.large_rows is not None:
        assert limits.large_batch_rows is not None
        assert limits.large_rows <= limits.large_batch_rows <= most
    assert (layout, layout.engines, limits.max_batch_rows) in {(c.layout, c.callers, c.rows) for c in table}


@given(
    times=st.dictionaries(st.integers(1, 64), st.floats(1e-6, 1.0), min_size=1).map(lambda t: dict(sorted(t.items()))),
    limit=st.floats(0, 2),
)
def test_rows_within_a_time_are_all_rows_up_to_the_first_that_takes_longer(
    times: dict[int, float], limit: float
) -> None:
    rows = rows_within(times, limit)
    assert all(seconds_for(times, fitting) <= limit for fitting in range(1, rows + 1))
    assert rows == max(times) or seconds_for(times, rows + 1) > limit


def test_times_between_measured_sizes_lie_on_a_line() -> None:
    times = {1: 1.0, 4: 4.0, 8: 16.0}
    assert [seconds_for(times, rows) for rows in (1, 2, 4, 6, 8, 16)] == pytest.approx([1, 2, 4, 10, 16, 32])
