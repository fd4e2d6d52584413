from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ganserve.bundle import BundleError, Card, LatentInput, example_rows
from server.engines.base import GraphFile, warm_up
from server.engines.onnx_cuda import CudaOnnxEngine, cuda_device_indices
from server.errors import StartupError
from tests.server.engines.fake_onnxruntime import CPU, FakeOnnxRuntime, FakeSession, fake_outputs
from tests.server.tiny_cards import GENERATOR, TRANSLATOR

ALL_OUTPUTS = [frozenset({"images"}), frozenset({"pixels"}), frozenset({"images", "pixels"})]
BOTH = ALL_OUTPUTS[2]
GRAPH = GraphFile(Path("models/tiny/3/model.onnx"), b"")


class Fakes:
    """Makes engines on a fake onnxruntime, and closes them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._engines: list[CudaOnnxEngine] = []
        self.use(GENERATOR)

    def use(self, card: Card) -> None:
        self.runtime = FakeOnnxRuntime(card)
        for module in ("onnx_cuda", "cuda_buffers", "sessions", "run_limit"):
            self._monkeypatch.setattr(f"server.engines.{module}.onnxruntime", self.runtime)
        self._monkeypatch.setattr("server.engines.onnx_cuda.cuda_devices", lambda: 2)

    def engine(self, **settings: Any) -> CudaOnnxEngine:
        self._engines.append(CudaOnnxEngine(GRAPH, self.runtime.card, **{"batch_rows": (1, 2, 4), **settings}))
        return self._engines[-1]

    def session(self, size: int) -> FakeSession:
        """The newest session of that size."""
        return [session for session in self.runtime.sessions if session.size == size][-1]

    def close(self) -> None:
        for engine in self._engines:
            engine.close()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fakes]:
    made = Fakes(monkeypatch)
    yield made
    made.close()


def rows_of(card: Card, count: int, seed: int = 1) -> Any:
    rows = example_rows(card.input, seed, count)
    rows.setflags(write=False)  # as those are that a request brings
    return rows


def check_run(engine: CudaOnnxEngine, card: Card, count: int, outputs: frozenset[str], seed: int = 1) -> None:
    inputs = rows_of(card, count, seed)
    results = engine.run(inputs, outputs)
    assert results.keys() == outputs
    for name, result in results.items():
        np.testing.assert_array_equal(result, fake_outputs(inputs, card)[name])
        assert result.dtype == card.outputs[name][0]


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("card", [GENERATOR, TRANSLATOR], ids=lambda card: card.name)
@pytest.mark.parametrize("outputs", ALL_OUTPUTS, ids=sorted)
def test_every_batch_size_returns_the_wanted_outputs(
    fakes: Fakes, card: Card, outputs: frozenset[str], cuda_graphs: bool
) -> None:
    fakes.use(card)
    engine = fakes.engine(cuda_graphs=cuda_graphs)
    for count in (1, 2, 3, 4, 3, 2, 1):
        check_run(engine, card, count, outputs, seed=count)


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_sets_of_outputs_may_alternate(fakes: Fakes, cuda_graphs: bool) -> None:
    engine = fakes.engine(cuda_graphs=cuda_graphs)
    for seed, outputs in enumerate([*ALL_OUTPUTS, *reversed(ALL_OUTPUTS)]):
        check_run(engine, GENERATOR, 3, outputs, seed)


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_results_are_not_overwritten_by_later_batches(fakes: Fakes, cuda_graphs: bool) -> None:
    engine = fakes.engine(cuda_graphs=cuda_graphs)
    earlier = engine.run(rows_of(GENERATOR, 3, seed=1), BOTH)
    for count in (4, 3, 1):
        engine.run(rows_of(GENERATOR, count, seed=2), BOTH)
    for name, expected in fake_outputs(rows_of(GENERATOR, 3, seed=1), GENERATOR).items():
        np.testing.assert_array_equal(earlier[name], expected)


def test_each_batch_runs_in_the_session_of_the_next_larger_size(fakes: Fakes) -> None:
    engine = fakes.engine(batch_rows=[6, 2, 1, 2])
    assert engine.sizes == (1, 2, 6)
    assert [session.size for session in fakes.runtime.sessions] == [1, 2, 6]
    fakes.runtime.computed.clear()
    for count in range(1, 7):
        engine.run(rows_of(GENERATOR, count), BOTH)
        assert len(fakes.runtime.computed[-1]) == engine.padded_rows(count)
    assert [len(batch) for batch in fakes.runtime.computed] == [1, 2, 6, 6, 6, 6]


def test_padding_is_finite(fakes: Fakes) -> None:
    engine = fakes.engine(batch_rows=[4])
    engine.run(rows_of(GENERATOR, 1), BOTH)
    assert np.isfinite(fakes.runtime.computed[-1]).all()


def test_a_batch_of_more_rows_than_the_largest_size_is_refused(fakes: Fakes) -> None:
    with pytest.raises(ValueError, match="a batch of 5 rows: this engine computes 1 to 4"):
        fakes.engine().run(rows_of(GENERATOR, 5), BOTH)


@pytest.mark.parametrize("batch_rows", [[], [0, 1]])
def test_sizes_that_hold_no_row_are_refused(fakes: Fakes, batch_rows: list[int]) -> None:
    with pytest.raises(ValueError, match="one or more sizes of at least 1 row"):
        fakes.engine(batch_rows=batch_rows)


def test_every_size_is_warm_after_construction(fakes: Fakes) -> None:
    fakes.engine()
    assert [set(session.runs) for session in fakes.runtime.sessions] == [set(ALL_OUTPUTS)] * 3


# With TF32 off, ONNX Runtime would keep float16 off the tensor cores, too.
@pytest.mark.parametrize(("precision", "use_tf32"), [("fp32", "0"), ("fp16", "1")])
def test_sessions_get_the_options_of_the_cuda_provider(fakes: Fakes, precision: str, use_tf32: str) -> None:
    engine = fakes.engine(device_index=1, precision=precision)
    assert (engine.backend, engine.device, engine.precision, engine.threads) == ("onnx", "cuda:1", precision, 1)
    for session in fakes.runtime.sessions:
        assert session.provider_options == {
            "device_id": "1",
            "cudnn_conv_algo_search": "HEURISTIC",
            "cudnn_conv_use_max_workspace": "1",
            "use_tf32": use_tf32,
            "prefer_nhwc": "0",
        }
        assert session.options.__dict__["intra_op_num_threads"] == 1
        assert session.options.entries["session.disable_cpu_ep_fallback"] == "1"


def test_a_graph_without_a_symbolic_number_of_rows_runs_unchanged(fakes: Fakes) -> None:
    fakes.runtime.row_symbol = None
    engine = fakes.engine()
    assert [session.options.dimensions for session in fakes.runtime.sessions] == [{}] * 3
    check_run(engine, GENERATOR, 3, BOTH)


def test_one_cuda_graph_per_size_is_captured_at_load_and_serves_every_set_of_outputs(fakes: Fakes) -> None:
    engine = fakes.engine(cuda_graphs=True)
    sessions = fakes.runtime.sessions
    assert [session.runs for session in sessions] == [[BOTH] * 3] * 3
    assert [session.replays for session in sessions] == [1, 1, 1]  # at load, so that a failure is found
    for seed, outputs in enumerate(ALL_OUTPUTS):
        check_run(engine, GENERATOR, 3, outputs, seed)
    assert [(len(session.runs), session.replays) for session in sessions] == [(3, 1), (3, 1), (3, 4)]
    assert engine.cuda_graphs


def test_sizes_without_a_captured_graph_run_without(fakes: Fakes, caplog: pytest.LogCaptureFixture) -> None:
    fakes.runtime.uncapturable_sizes = {2, 4}
    engine = fakes.engine(cuda_graphs=True)
    assert not engine.cuda_graphs
    assert [fakes.session(size).captures for size in (1, 2, 4)] == [True, False, False]
    for count in (1, 2, 3, 4):
        check_run(engine, GENERATOR, count, BOTH, seed=count)
    (record,) = caplog.records  # size 4 is not tried
    message = record.getMessage()
    assert "batches of 2 rows cannot be captured as a CUDA graph" in message
    assert "CUDA failure 900" in message
    assert "\n" not in message


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_a_graph_with_nodes_on_the_cpu_is_refused_with_their_names(fakes: Fakes, cuda_graphs: bool) -> None:
    fakes.runtime.nodes_on_cpu = ["Shape", "Det", "Shape"]
    with pytest.raises(BundleError, match=r"model\.onnx: .* \(1 Det, 2 Shape\).* --device cpu") as error:
        fakes.engine(cuda_graphs=cuda_graphs)
    assert "\n" not in str(error.value)


def test_a_provider_that_does_not_start_is_a_startup_error(fakes: Fakes) -> None:
    fakes.runtime.cuda_starts = False
    with pytest.raises(StartupError, match=r"--device cuda: .* provider does not start.* or use --device cpu"):
        fakes.engine()


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_too_little_memory_for_a_size_raises_the_cuda_error(fakes: Fakes, cuda_graphs: bool) -> None:
    fakes.runtime.too_large = 4
    with pytest.raises(RuntimeError, match="CUDA failure 2: out of memory"):
        fakes.engine(cuda_graphs=cuda_graphs)


def test_a_failed_run_raises_and_later_runs_are_tried(fakes: Fakes) -> None:
    engine = fakes.engine()
    fakes.runtime.run_error = "Error in execution: out of memory"
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.run(rows_of(GENERATOR, 2), BOTH)
    fakes.runtime.run_error = None
    check_run(engine, GENERATOR, 2, BOTH)


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("count", [3, 4])
def test_rows_in_another_memory_order_are_computed(fakes: Fakes, cuda_graphs: bool, count: int) -> None:
    inputs = np.asfortranarray(rows_of(GENERATOR, count))
    results = fakes.engine(cuda_graphs=cuda_graphs).run(inputs, BOTH)
    for name, expected in fake_outputs(inputs, GENERATOR).items():
        np.testing.assert_array_equal(results[name], expected)


def test_rows_of_the_wrong_dtype_are_refused(fakes: Fakes) -> None:
    with pytest.raises(AssertionError):
        fakes.engine().run(rows_of(GENERATOR, 2).astype(np.float64), BOTH)


def test_a_device_that_the_driver_does_not_report_is_refused(fakes: Fakes) -> None:
    with pytest.raises(
        StartupError, match=r"--device cuda: .* cuda:2 here \(the NVIDIA driver reports no such device\)"
    ):
        fakes.engine(device_index=2)


def test_an_onnxruntime_without_cuda_is_refused(fakes: Fakes) -> None:
    fakes.runtime.providers = [CPU]
    with pytest.raises(StartupError, match="is not onnxruntime-gpu"):
        fakes.engine()


def test_a_device_that_cannot_allocate_is_refused_in_one_line(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("CUDA Provider not available\nfirst of many lines")

    monkeypatch.setattr(fakes.runtime.OrtValue, "ortvalue_from_shape_and_type", fail)
    with pytest.raises(StartupError, match=r"\(RuntimeError: CUDA Provider not available\); install") as error:
        fakes.engine()
    assert "\n" not in str(error.value)


def test_nothing_is_printed_to_stdout(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.engine()
    assert capsys.readouterr() == ("", "preloading\n")


def test_all_runs_are_on_the_thread_that_warmed_up(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    run = FakeSession.run_with_iobinding

    def note_thread(*args: Any) -> None:
        threads.add(threading.get_ident())
        run(*args)

    monkeypatch.setattr(FakeSession, "run_with_iobinding", note_thread)
    engine = fakes.engine()
    with ThreadPoolExecutor(4) as callers:
        for done in [callers.submit(check_run, engine, GENERATOR, 1 + n % 4, BOTH, n) for n in range(40)]:
            done.result()
    assert threads == {engine._executor.submit(threading.get_ident).result()}


def test_a_closed_engine_holds_no_session_and_refuses_runs(fakes: Fakes) -> None:
    engine = fakes.engine()
    engine.close()
    engine.close()
    assert not engine._plans
    with pytest.raises(RuntimeError):
        engine.run(rows_of(GENERATOR, 1), BOTH)


def test_a_failed_load_leaves_no_thread(fakes: Fakes) -> None:
    fakes.runtime.too_large = 4
    with pytest.raises(RuntimeError, match="out of memory"):
        fakes.engine(device_index=1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cuda:1")]


def test_a_graph_that_does_not_match_the_card_is_refused(fakes: Fakes) -> None:
    card = msgspec.structs.replace(GENERATOR, input=LatentInput(latent_dim=5))
    with pytest.raises(BundleError, match="the card says"):
        CudaOnnxEngine(GRAPH, card, batch_rows=(1,))


def test_the_shared_warm_up_accepts_the_engine(fakes: Fakes) -> None:
    warm_up(fakes.engine(), GENERATOR, 4)
    assert len(fakes.runtime.computed[-1]) == 4


@pytest.mark.parametrize(
    ("count", "wanted", "expected"), [(1, None, (0,)), (3, None, (0, 1, 2)), (3, [2, 0], (2, 0)), (1, [0], (0,))]
)
def test_all_devices_are_used_unless_some_are_named(
    count: int, wanted: list[int] | None, expected: tuple[int, ...]
) -> None:
    assert cuda_device_indices(count, wanted) == expected


@pytest.mark.parametrize(
    ("count", "wanted", "message"),
    [
        (0, None, "--device cuda: the NVIDIA driver reports no device; .* --device cpu"),
        (0, [0], "--device cuda: the NVIDIA driver reports no device; .* --device cpu"),
        (2, [0, 2], "--cuda-devices 0,2: there is no 2; this machine has 2, numbered from 0"),
        (2, [-1], "--cuda-devices -1: there is no -1"),
        (2, [1, 1], "--cuda-devices 1,1: name each once"),
        (2, [], "name each once, and at least one"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(count: int, wanted: list[int] | None, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        cuda_device_indices(count, wanted)
