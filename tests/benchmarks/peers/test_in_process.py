from __future__ import annotations

import pytest

from benchmarks.peers.closed_loop import LoadError
from benchmarks.peers.in_process import measure, measure_apart
from benchmarks.peers.layout import Layout
from benchmarks.peers.served_graph import ServedGraph


@pytest.mark.parametrize("layout", [Layout(1, 1), Layout(2, 1)])
def test_the_runtime_alone_makes_images(tiny_graph: ServedGraph, layout: Layout) -> None:
    limit = measure(tiny_graph.graph, layout, rows=4, seconds=0.05)
    assert limit.images_per_s > 0
    assert limit.run_p50_ms > 0


def test_it_is_measured_in_another_process(tiny_graph: ServedGraph) -> None:
    assert measure_apart(tiny_graph.graph, Layout(1, 1), rows=1, seconds=0.02).images_per_s > 0


def test_a_graph_that_does_not_run_is_an_error(tiny_graph: ServedGraph) -> None:
    with pytest.raises(LoadError, match="in process"):
        measure_apart(tiny_graph.graph.with_name("missing.onnx"), Layout(1, 1), rows=1, seconds=0.02)


def test_a_layout_is_parsed_and_printed_the_same() -> None:
    assert str(Layout.parse("2x1")) == "2x1"
    for text in ("2", "0x1", "2x", "2x1x1", "a"):
        with pytest.raises(ValueError, match="is not a layout"):
            Layout.parse(text)
