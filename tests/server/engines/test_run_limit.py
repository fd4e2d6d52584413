from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ganserve.bundle import ONNX_FILE, BundleError, read_card
from ganserve.latents import latents_from_seed
from server.engines import run_limit
from server.engines.base import GraphFile, warm_up
from server.engines.onnx_cpu import OnnxEngine
from server.engines.run_limit import RunLimit, RunTooLong
from tests.server.endless_graphs import loop_forever, loop_forever_if_large
from tests.server.tiny_bundles import publish_tiny_bundle, tiny_images

IMAGES = frozenset({"images"})


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_limit, "_TICK_S", 0.02)


def engine_of(folder: Path, limit_s: float) -> OnnxEngine:
    return OnnxEngine(
        GraphFile(folder / ONNX_FILE, (folder / ONNX_FILE).read_bytes()), read_card(folder), 1, run_limit_s=limit_s
    )


def test_an_endless_graph_fails_the_warm_up_in_one_line_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = publish_tiny_bundle(tmp_path, change_graph=loop_forever)
    engine = engine_of(folder, 0.1)
    capfd.readouterr()
    with pytest.raises(BundleError, match=r"on 1 row \(RunTooLong: a run was ended after 0\.1 s; raise") as error:
        warm_up(engine, read_card(folder), 4)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_an_input_that_makes_a_graph_endless_fails_alone(tmp_path: Path) -> None:
    engine = engine_of(publish_tiny_bundle(tmp_path, change_graph=loop_forever_if_large), 0.1)
    latents = latents_from_seed(0, 3, 4)
    for _ in range(2):
        with pytest.raises(RunTooLong, match=r"--compute-timeout-s"):
            engine.run(np.full((1, 4), 1e6, np.float32), IMAGES)
        np.testing.assert_allclose(engine.run(latents, IMAGES)["images"], tiny_images(latents), atol=1e-5)


def test_other_errors_of_a_run_are_raised_as_they_are() -> None:
    def fail(_: Any) -> None:
        raise ValueError("of the run")

    with pytest.raises(ValueError, match="of the run"):
        RunLimit(60).run(fail)


def test_a_run_that_ends_in_time_is_no_longer_watched() -> None:
    assert RunLimit(60).run(lambda options: options.terminate) is False
    assert not run_limit._watch().runs


def test_a_run_within_the_limit_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = []
    sleep = time.sleep

    def tick(seconds: float) -> None:
        ticks.append(seconds)
        sleep(seconds)

    monkeypatch.setattr("server.engines.run_limit.time.sleep", tick)

    def watch(options: Any) -> bool:
        while len(ticks) < 5:
            sleep(0.001)
        return bool(options.terminate)

    assert RunLimit(1000).run(watch) is False
