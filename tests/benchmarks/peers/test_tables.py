from __future__ import annotations

from benchmarks.peers import tables
from benchmarks.peers.closed_loop import Cell, Load
from benchmarks.peers.in_process import Limit
from benchmarks.peers.open_loop import Stream
from benchmarks.peers.process_table import Memory
from benchmarks.peers.visit import Visit

ONE, MANY = Cell(1, 1), Cell(64, 4)


def visit(peer: str, round_number: int, speeds: dict[Cell, float], *streams: Stream) -> Visit:
    loads = {cell: Load(speed, 1e4 / speed, 2e4 / speed, 1.5, 0.25, 0.0) for cell, speed in speeds.items()}
    record = Visit(peer, "gan28", round_number, 0.5 + round_number, 1e-7, Memory(90, 60), Memory(100, 70), 3)
    record.loads.update(loads)
    record.streams.extend(streams)
    return record


VISITS = [
    visit("ours", 0, {ONE: 100, MANY: 3000}, Stream(500, 50, 0, 1.0, 5.0, 0.1)),
    visit("triton 2x1", 0, {ONE: 50, MANY: 4000}),
    visit("triton 2x1", 1, {ONE: 70, MANY: 4000}),
    visit("ours", 1, {ONE: 300}, Stream(500, 50, 2, 3.0, 7.0, 0.3)),
    visit("ours", 2, {ONE: 120, MANY: 5000}, Stream(500, 50, 0, 2.0, 9.0, 0.2)),
]


def test_throughput_is_the_median_over_the_rounds() -> None:
    assert tables.throughput_table(VISITS) == [
        {"peer": "ours", "1x1": "120", "64x4": "4,000"},
        {"peer": "triton 2x1", "1x1": "60", "64x4": "4,000"},
    ]


def test_ratios_divide_ours_by_each_other_peer() -> None:
    assert tables.ratio_table(VISITS, "ours") == [{"peer": "triton 2x1", "1x1": "2.00", "64x4": "1.00"}]


def test_a_cell_that_was_never_measured_is_a_dash() -> None:
    visits = [visit("ours", 0, {ONE: 100}), visit("floor", 0, {MANY: 100})]
    for table in (tables.throughput_table, tables.latency_table, tables.cores_table, tables.spread_table):
        (ours, floor) = table(visits)
        assert ours["64x4"] == floor["1x1"] == "-"
        assert "-" not in {ours["1x1"], floor["64x4"]}
    assert tables.ratio_table(visits, "ours") == [{"peer": "floor", "1x1": "-", "64x4": "-"}]


def test_the_spread_is_relative_to_the_median() -> None:
    assert tables.spread_table(VISITS)[0] == {"peer": "ours", "1x1": "0.83-2.50", "64x4": "0.75-1.25"}


def test_latency_and_cores_are_medians_too() -> None:
    assert tables.latency_table(VISITS)[0]["1x1"] == "83.3 / 167"
    assert tables.cores_table(VISITS)[0]["1x1"] == "1.50 / 0.25 / 0.00"


def test_the_start_table_has_one_row_per_peer() -> None:
    first, second = tables.start_table(VISITS)
    assert (first["peer"], first["cold start s"], first["RSS MiB loaded"]) == ("ours", "1.50", 100)
    assert (second["peer"], second["processes"]) == ("triton 2x1", 3)


def test_the_open_loop_table_adds_up_failures() -> None:
    (row,) = tables.open_loop_table(VISITS)
    assert row == {
        "peer": "ours",
        "requests/s": "500",
        "p50 ms": "2",
        "p99 ms": "7",
        "client late p99 ms": "0.2",
        "failed": 2,
    }


def test_the_limits_table_covers_one_model() -> None:
    limits = {
        ("gan28", "in-process 1x1", 64): [Limit(900.0, 0.5), Limit(1100.0, 0.7), Limit(1000.0, 0.6)],
        ("gan28", "in-process 2x1", 1): [Limit(200.0, 0.1)],
        ("dcgan64", "in-process 1x1", 1): [Limit(1.0, 1.0)],
    }
    assert tables.limits_table(limits, "gan28") == [
        {"layout": "in-process 1x1", "1 rows": "-", "64 rows": "1,000 (0.6 ms)"},
        {"layout": "in-process 2x1", "1 rows": "200 (0.1 ms)", "64 rows": "-"},
    ]


def test_without_visits_tables_are_empty() -> None:
    assert tables.throughput_table([]) == tables.start_table([]) == tables.open_loop_table([]) == []
