from __future__ import annotations

import numpy as np
import pytest

from ganserve.bundle import example_rows
from server.engines.cuda_buffers import BatchPlan, HostBuffers
from server.engines.run_limit import RunLimit
from tests.server.engines.fake_onnxruntime import CUDA, FakeOnnxRuntime, FakeOptions, fake_outputs
from tests.server.tiny_cards import GENERATOR

SIZE = 4
BOTH = frozenset(GENERATOR.outputs)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeOnnxRuntime:
    runtime = FakeOnnxRuntime(GENERATOR)
    for module in ("cuda_buffers", "run_limit"):
        monkeypatch.setattr(f"server.engines.{module}.onnxruntime", runtime)
    return runtime


def make_plan(runtime: FakeOnnxRuntime, *, cuda_graphs: bool = False) -> BatchPlan:
    options = FakeOptions()
    options.dimensions["rows"] = SIZE
    provider = (CUDA, {"enable_cuda_graph": "1"} if cuda_graphs else {})
    session = runtime.InferenceSession(b"", options, [provider], enable_fallback=0)
    outputs = {name: np.empty((SIZE, *shape), dtype) for name, (dtype, shape) in GENERATOR.outputs.items()}
    buffers = HostBuffers("latents", example_rows(GENERATOR.input, 0, SIZE), outputs)
    return BatchPlan(session, SIZE, buffers, 0, RunLimit(60), cuda_graphs=cuda_graphs)


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("rows", [1, SIZE])
def test_a_batch_is_padded_and_the_results_belong_to_the_caller(
    runtime: FakeOnnxRuntime, cuda_graphs: bool, rows: int
) -> None:
    plan = make_plan(runtime, cuda_graphs=cuda_graphs)
    first, second = (example_rows(GENERATOR.input, seed, rows) for seed in (1, 2))
    results = plan.run(first, BOTH)
    plan.run(second, BOTH)  # must not overwrite them
    assert {len(batch) for batch in runtime.computed} == {SIZE}
    for name, expected in fake_outputs(first, GENERATOR).items():
        np.testing.assert_array_equal(results[name], expected)


def test_rows_of_another_type_or_shape_never_reach_the_device(runtime: FakeOnnxRuntime) -> None:
    plan = make_plan(runtime)
    rows = example_rows(GENERATOR.input, 1, 2)
    for wrong in (rows.astype(np.float64), rows.reshape(1, -1)):
        with pytest.raises(AssertionError):
            plan.run(wrong, BOTH)
    assert runtime.computed == []


def test_a_graph_of_all_outputs_is_captured_and_replayed_at_load(runtime: FakeOnnxRuntime) -> None:
    plan = make_plan(runtime, cuda_graphs=True)
    plan.warm_up(example_rows(GENERATOR.input, 1, SIZE))
    (session,) = runtime.sessions
    assert session.runs == [BOTH] * 3  # the third is captured, once no run allocates memory
    assert session.replays == 1


def test_without_graphs_each_set_of_outputs_runs_twice_at_load(runtime: FakeOnnxRuntime) -> None:
    plan = make_plan(runtime)
    plan.warm_up(example_rows(GENERATOR.input, 1, SIZE))
    (session,) = runtime.sessions
    assert [session.runs.count(outputs) for outputs in (frozenset({"images"}), frozenset({"pixels"}), BOTH)] == [2] * 3
