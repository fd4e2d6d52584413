"""Compares the CUDA engine with the CPU engine on real graphs; without a device, makes its calls on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ganserve.bundle import ONNX_FILE, VARIANT_FILES, BundleError, Card, example_rows, read_card
from server.engines.base import GraphFile, cuda_devices, warm_up
from server.engines.onnx_cpu import OnnxEngine
from server.engines.onnx_cuda import CudaOnnxEngine
from server.errors import StartupError
from tests.server.engines.fake_onnxruntime import OnnxRuntimeOnCpu
from tests.server.tiny_bundles import IMAGE_SHAPE, LATENT_DIM, publish_tiny_bundle, publish_tiny_translator

MAX_ROWS = 9
SIZES = (1, 2, 4, MAX_ROWS)
ALL_OUTPUTS = [frozenset({"images"}), frozenset({"pixels"}), frozenset({"images", "pixels"})]
BOTH = ALL_OUTPUTS[2]

needs_cuda = pytest.mark.skipif(cuda_devices() == 0, reason="no CUDA device")


def use_transposed_convolutions(model: onnx.ModelProto) -> None:
    """A DCGAN: latents become feature maps of one pixel, and these become images step by step."""
    channels, height, width = IMAGE_SHAPE
    generator = np.random.default_rng(0)

    def add(name: str, value: NDArray[Any]) -> None:
        model.graph.initializer.append(numpy_helper.from_array(value, name))

    add("to_maps", np.array([-1, LATENT_DIM, 1, 1], np.int64))
    add("first", generator.standard_normal((LATENT_DIM, 16, height // 2, width // 2), dtype=np.float32))
    add("second", generator.standard_normal((16, channels, 4, 4), dtype=np.float32) / 16)
    add("bias", generator.standard_normal(channels, dtype=np.float32))
    head = [node for node in model.graph.node if node.op_type not in {"Gemm", "Reshape"}]
    del model.graph.node[:]
    model.graph.node.extend(
        [
            helper.make_node("Reshape", ["latents", "to_maps"], ["maps"]),
            helper.make_node("ConvTranspose", ["maps", "first"], ["small"]),
            helper.make_node("Relu", ["small"], ["positive"]),
            helper.make_node(
                "ConvTranspose", ["positive", "second", "bias"], ["raw"], strides=[2, 2], pads=[1, 1, 1, 1]
            ),
            *head,
        ]
    )


def add_zeros_of_a_computed_shape(model: onnx.ModelProto) -> None:
    """Adds a shape that depends on the number of rows; ONNX Runtime computes it on the CPU unless it can fold it."""
    index = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Tanh")
    model.graph.node[index].input[0] = "sum"
    for node in (
        helper.make_node("Add", ["raw", "zeros"], ["sum"]),
        helper.make_node("ConstantOfShape", ["computed_shape"], ["zeros"]),
        helper.make_node("Shape", ["raw"], ["computed_shape"]),
    ):
        model.graph.node.insert(index, node)


BUNDLES: dict[str, Callable[[Path], Path]] = {
    "gemm": publish_tiny_bundle,
    "transposed convolutions": lambda folder: publish_tiny_bundle(folder, change_graph=use_transposed_convolutions),
    "computed shape": lambda folder: publish_tiny_bundle(folder, change_graph=add_zeros_of_a_computed_shape),
    "translator": publish_tiny_translator,
}


@pytest.fixture(params=[pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda]), "cpu instead"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "cuda":
        for module in ("onnx_cuda", "cuda_buffers", "sessions", "run_limit"):
            monkeypatch.setattr(f"server.engines.{module}.onnxruntime", OnnxRuntimeOnCpu)
        monkeypatch.setattr("server.engines.onnx_cuda.cuda_devices", lambda: 1)


def graph_in(folder: Path) -> GraphFile:
    return GraphFile(folder / ONNX_FILE, (folder / ONNX_FILE).read_bytes())


def load(folder: Path, **settings: Any) -> tuple[Card, CudaOnnxEngine, OnnxEngine]:
    card = read_card(folder)
    graph = graph_in(folder)
    engine = CudaOnnxEngine(graph, card, batch_rows=SIZES, **settings)
    warm_up(engine, card, MAX_ROWS)
    return card, engine, OnnxEngine(graph, card, 1)


def check_parity(engine: CudaOnnxEngine, reference: OnnxEngine, inputs: Any, outputs: frozenset[str]) -> None:
    results = engine.run(inputs, outputs)
    expected = reference.run(inputs, outputs)
    assert results.keys() == outputs
    for name, result in results.items():
        assert (result.shape, result.dtype) == (expected[name].shape, expected[name].dtype)
    if "images" in outputs:
        np.testing.assert_allclose(results["images"], expected["images"], atol=1e-4)  # TF32 would fail
    if "pixels" in outputs:
        np.testing.assert_allclose(results["pixels"].astype(int), expected["pixels"].astype(int), atol=1)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_batch_size_and_output_matches_the_cpu(
    tmp_path: Path, bundle: str, cuda_graphs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    card, engine, reference = load(BUNDLES[bundle](tmp_path), cuda_graphs=cuda_graphs)
    assert engine.cuda_graphs == cuda_graphs, caplog.text
    for rows in [*range(1, MAX_ROWS + 1), *range(MAX_ROWS, 0, -1)]:
        for outputs in ALL_OUTPUTS:
            inputs = example_rows(card.input, rows, rows)
            inputs.setflags(write=False)
            check_parity(engine, reference, inputs, outputs)
    engine.close()


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_results_of_concurrent_threads_match_the_cpu(tmp_path: Path, cuda_graphs: bool) -> None:
    card, engine, reference = load(BUNDLES["transposed convolutions"](tmp_path), cuda_graphs=cuda_graphs)

    def check(number: int) -> None:
        inputs = example_rows(card.input, number, 1 + number % MAX_ROWS)
        check_parity(engine, reference, inputs, ALL_OUTPUTS[number % 3])

    with ThreadPoolExecutor(8) as callers:
        for done in [callers.submit(check, number) for number in range(100)]:
            done.result()
    engine.close()


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_the_pixels_of_float16_are_close_to_those_of_float32(exported: Path, cuda_graphs: bool) -> None:
    card, path = read_card(exported), exported / VARIANT_FILES["fp16"]
    graph = GraphFile(path, path.read_bytes())
    engine = CudaOnnxEngine(graph, card, batch_rows=(1, MAX_ROWS), precision="fp16", cuda_graphs=cuda_graphs)
    inputs = example_rows(card.input, 0, MAX_ROWS)
    pixels = engine.run(inputs, BOTH)["pixels"].astype(int)
    expected = OnnxEngine(graph_in(exported), card, 1).run(inputs, BOTH)["pixels"].astype(int)
    assert (abs(pixels - expected) <= 1).mean() > 0.99
    engine.close()


@pytest.mark.usefixtures("device")
def test_a_row_does_not_depend_on_padding_or_other_rows(tmp_path: Path) -> None:
    card, engine, _ = load(BUNDLES["transposed convolutions"](tmp_path))
    inputs = example_rows(card.input, 0, MAX_ROWS)
    full = engine.run(inputs, BOTH)
    for rows in range(SIZES[-2] + 1, MAX_ROWS):  # all in batches of the largest size
        part = engine.run(inputs[:rows], BOTH)
        for name in BOTH:
            np.testing.assert_array_equal(part[name], full[name][:rows])
    engine.close()


@pytest.mark.usefixtures("device")
def test_a_reloaded_engine_computes_the_same(tmp_path: Path) -> None:
    folder = BUNDLES["transposed convolutions"](tmp_path)
    for _ in range(3):
        card, engine, reference = load(folder)
        check_parity(engine, reference, example_rows(card.input, 1, 3), BOTH)
        engine.close()


@pytest.mark.usefixtures("device")
def test_a_file_that_is_not_a_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = publish_tiny_bundle(tmp_path)
    (folder / ONNX_FILE).write_bytes(b"junk")
    with pytest.raises(BundleError, match=r"model\.onnx: not a graph that runs .* export the model again") as error:
        CudaOnnxEngine(graph_in(folder), read_card(folder), batch_rows=(1,))
    assert "\n" not in str(error.value)


def use_an_operator_of_the_cpu(model: onnx.ModelProto) -> None:
    tanh = next(node for node in model.graph.node if node.op_type == "Tanh")
    tanh.op_type, tanh.domain = "Binarizer", "ai.onnx.ml"  # CUDA has no kernels of this domain
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))


@pytest.mark.gpu
@needs_cuda
def test_a_graph_with_nodes_that_cuda_cannot_compute_is_refused(tmp_path: Path) -> None:
    folder = publish_tiny_bundle(tmp_path, change_graph=use_an_operator_of_the_cpu)
    with pytest.raises(BundleError, match=r"CUDA cannot compute some of its nodes \(1 Binarizer\)"):
        CudaOnnxEngine(graph_in(folder), read_card(folder), batch_rows=(1,))


class OnnxRuntimeWithoutDriver(OnnxRuntimeOnCpu):
    """Has the real sessions, which do not find CUDA."""

    InferenceSession = onnxruntime.InferenceSession


@pytest.mark.skipif(
    cuda_devices() > 0 or "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="CUDA works here, or onnxruntime has no CUDA provider",
)
def test_a_session_that_silently_skipped_cuda_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("onnx_cuda", "cuda_buffers", "sessions", "run_limit"):
        monkeypatch.setattr(f"server.engines.{module}.onnxruntime", OnnxRuntimeWithoutDriver)
    monkeypatch.setattr("server.engines.onnx_cuda.cuda_devices", lambda: 1)
    folder = publish_tiny_bundle(tmp_path)
    with pytest.raises(StartupError, match="its CUDA provider does not start"):
        CudaOnnxEngine(graph_in(folder), read_card(folder), batch_rows=(1,))


@pytest.mark.skipif(cuda_devices() > 0, reason="CUDA works here")
def test_without_cuda_the_real_onnxruntime_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = publish_tiny_bundle(tmp_path)
    capfd.readouterr()
    with pytest.raises(StartupError, match=r"--device cuda: .* use --device cpu"):
        CudaOnnxEngine(graph_in(folder), read_card(folder), batch_rows=(1,))
    assert capfd.readouterr() == ("", "")
