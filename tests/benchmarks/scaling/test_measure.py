from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.peers.served_graph import ServedGraph
from benchmarks.scaling.measure import fit_line, make_blank, thread_costs, thread_times_s


def test_a_line_is_fitted_with_relative_errors() -> None:
    batch_s, row_s, error = fit_line([(rows, 0.002 + 0.001 * rows) for rows in (1, 8, 64)])
    assert (batch_s, row_s) == pytest.approx((0.002, 0.001))
    assert error < 1e-6
    *_, error = fit_line([(1, 0.003), (8, 0.010), (64, 0.132)])
    assert error > 0.2


def test_a_line_does_not_begin_below_zero() -> None:
    batch_s, row_s, _ = fit_line([(1, 0.001), (64, 0.070)])
    assert batch_s == 0
    assert row_s == pytest.approx(0.00105, rel=0.05)


def test_costs_of_waking_are_told_from_those_of_requests() -> None:
    found = thread_costs(one_s=130e-6, many_s=30e-6)
    assert (found.wake_s, found.request_s) == pytest.approx((100e-6, 30e-6))


def test_the_time_of_each_thread_is_measured() -> None:
    ids: list[int] = []
    computed, go_on = threading.Event(), threading.Event()

    def compute() -> None:
        ids.append(threading.get_native_id())
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        computed.set()
        go_on.wait()

    before = thread_times_s(os.getpid())
    thread = threading.Thread(target=compute)
    thread.start()
    try:
        assert computed.wait(60)
        found = thread_times_s(os.getpid())
    finally:
        go_on.set()
        thread.join()
    assert os.getpid() in before
    assert ids[0] not in before
    assert found[ids[0]][1] >= 0.045


def test_a_blank_model_has_the_shapes_of_another_and_depends_on_the_latents(tmp_path: Path) -> None:
    model = ServedGraph("tiny", 8, (1, 2, 3), tmp_path, tmp_path)
    blank = make_blank(model, tmp_path / "models")
    session = onnxruntime.InferenceSession(blank.repository / blank.name / "1" / "model.onnx")
    images = session.run(["images"], {"latents": model.latents(3)})[0]
    assert images.shape == (3, *model.image_shape)
    assert len(np.unique(images)) == 3
