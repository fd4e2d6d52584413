from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu.record import Record, Skip
from benchmarks.gpu.serving import DEFAULT, GRAPHS, SERVERS, Engine, OneSessionEngine, goal, in_process
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.stand_in import cuda_stand_in
from ganserve.bundle import OUTPUT_PIXELS, example_rows, read_card
from server.engines.base import read_graph
from server.engines.loading import load_engine
from tests.server.tiny_bundles import publish_tiny_bundle

PIXELS = frozenset({OUTPUT_PIXELS})


def test_one_session_computes_every_size(tmp_path: Path) -> None:
    folder = publish_tiny_bundle(tmp_path)
    card = read_card(folder)
    reference = load_engine(folder, card, "onnx", "cpu")
    with cuda_stand_in():
        engine = OneSessionEngine(read_graph(folder, card, "onnx", "fp32"), card, batch_rows=(1, 4, 8))
        sessions = {id(plan._session) for plan in engine._plans.values()}
        for rows in (8, 1, 3):
            inputs = example_rows(card.input, 0, rows)
            np.testing.assert_array_equal(
                engine.run(inputs, PIXELS)[OUTPUT_PIXELS], reference.run(inputs, PIXELS)[OUTPUT_PIXELS]
            )
        engine.close()
    assert len(sessions) == 1


@pytest.mark.parametrize("engine", [DEFAULT, GRAPHS], ids=lambda engine: engine.name)
def test_an_engine_computes_the_pixels_of_the_cpu_and_is_timed(tmp_path: Path, engine: Engine) -> None:
    publish_tiny_bundle(tmp_path / "graphs" / "tiny" / "models")
    settings = Settings(tmp_path, tmp_path, math.inf, is_dry=True)
    measured = in_process(settings, "tiny", engine)
    assert measured["pixel_difference"] == 0
    assert set(measured["ms"]) == {"1", "8"}
    assert all(0 < measured["ms"][rows] <= measured["p99_ms"][rows] for rows in measured["ms"])
    with pytest.raises(Skip, match="another is not exported"):
        in_process(settings, "another", engine)


@pytest.mark.parametrize(("share", "p50_ms", "is_reached"), [(0.95, 0.8, True), (0.85, 0.8, False), (0.95, 1.2, False)])
def test_the_goal_needs_throughput_and_latency(tmp_path: Path, share: float, p50_ms: float, is_reached: bool) -> None:
    record = Record(tmp_path / "record.json", lambda: 100.0)
    for number, (flags, _) in enumerate(SERVERS[:2]):
        loads = {"1x1": {"p50_ms": p50_ms + number}}
        name = f"server dcgan64: {' '.join(flags) or 'default'}"
        record.measure(name, lambda loads=loads: {"share": share, "loads": loads, "summary": ""})  # type: ignore[misc]
    found = goal(record, "dcgan64")
    assert (found["share"], found["p50_ms"], found["is_reached"]) == (share, p50_ms, is_reached)


def test_the_default_engine_has_the_settings_of_the_server() -> None:
    assert (dict(DEFAULT.provider), DEFAULT.precision, DEFAULT.cuda_graphs, DEFAULT.has_one_session) == (
        {},
        "fp32",
        False,
        False,
    )
