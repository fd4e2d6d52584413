from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.peers.catalogue import Launch, Peer, floor
from benchmarks.peers.closed_loop import Cell, h2load_path
from benchmarks.peers.served_graph import ServedGraph
from benchmarks.peers.visit import Programme, VisitError, visit
from benchmarks.peers.wire import OpenInference

NOTHING = Programme(cells=(), rates=(), seconds=1)


def test_a_server_that_is_only_started_has_a_cold_start_and_memory(tiny_graph: ServedGraph, tmp_path: Path) -> None:
    record = visit(floor(), tiny_graph, {1: tiny_graph.images(1)}, NOTHING, 2, tmp_path)
    assert (record.peer, record.model, record.round_number) == ("floor", "tiny", 2)
    assert 0 < record.cold_start_s < 60
    assert record.idle.rss_mib > 5
    assert record.processes == 1
    assert record.to_json()["idle"].keys() == {"rss_mib", "pss_mib"}


@pytest.mark.skipif(h2load_path() is None, reason="h2load is not installed")
def test_a_server_is_driven_in_closed_and_open_loop(tiny_graph: ServedGraph, tmp_path: Path) -> None:
    programme = Programme(cells=[Cell(2, 2)], rates=[50.0], seconds=1)
    record = visit(floor(), tiny_graph, {2: tiny_graph.images(2)}, programme, 0, tmp_path)
    assert record.problems == []
    load = record.loads[Cell(2, 2)]
    assert load.images_per_s > 10
    assert 0 < load.p50_ms <= load.p99_ms
    assert load.server_cores > 0
    assert record.streams[0].failed == 0
    assert record.to_json()["loads"]["2x2"]["images_per_s"] == load.images_per_s


def test_a_server_with_wrong_answers_is_not_measured(tiny_graph: ServedGraph, tmp_path: Path) -> None:
    strict = Peer("floor that must compute", floor().prepare)
    with pytest.raises(VisitError, match="tiny"):
        visit(strict, tiny_graph, {1: tiny_graph.images(1)}, NOTHING, 0, tmp_path)


def test_the_error_of_a_server_that_exits_quotes_its_log(tiny_graph: ServedGraph, tmp_path: Path) -> None:
    def prepare(_: ServedGraph, __: Path) -> Launch:
        return Launch([sys.executable, "-c", "import sys; sys.exit('no such luck')"], OpenInference(), 1)

    with pytest.raises(VisitError, match=r"exited.*no such luck"):
        visit(Peer("broken", prepare), tiny_graph, {}, NOTHING, 0, tmp_path)


def test_a_port_that_the_server_picks_is_read_from_its_log() -> None:
    launch = Launch([], OpenInference())
    assert launch.find_port("model dcgan\n") is None
    ready = "ready: serving dcgan version 1 on 127.0.0.1:40123, metrics on http://127.0.0.1:9/metrics\n"
    assert launch.find_port("model dcgan\n" + ready) == 40123
