from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ganserve.bundle import ONNX_FILE, TORCHSCRIPT_FILE, BundleError, ImageInput, example_rows, read_card
from ganserve.latents import latents_from_seed
from server.config import BACKENDS, Backend, Precision
from server.engines.base import Engine, GraphFile, warm_up
from server.engines.loading import load_engine
from tests.server.tiny_bundles import (
    publish_tiny_bundle,
    publish_tiny_translator,
    tiny_images,
    tiny_pixels,
    tiny_translation,
    tiny_translation_images,
)

BOTH = frozenset({"images", "pixels"})


def load(folder: Path, backend: Backend = "onnx") -> Engine:
    card = read_card(folder)
    engine = load_engine(folder, card, backend, "cpu")
    warm_up(engine, card, 8)
    return engine


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_engine_computes_the_graph_of_the_bundle(tmp_path: Path, backend: Backend) -> None:
    engine = load(publish_tiny_bundle(tmp_path, torchscript=True), backend)
    assert (engine.backend, engine.device) == (backend, "cpu")
    for rows in (1, 2, 7):
        latents = latents_from_seed(5, rows, 4)
        latents.setflags(write=False)  # as those are that a request brings
        result = engine.run(latents, BOTH)
        np.testing.assert_allclose(result["images"], tiny_images(latents), atol=1e-5)
        np.testing.assert_allclose(result["pixels"].astype(int), tiny_pixels(latents).astype(int), atol=1)
        assert result["pixels"].dtype == np.uint8


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 4, 6), (1, 5, 2)])
def test_a_translator_maps_pixels_to_pixels(tmp_path: Path, backend: Backend, shape: tuple[int, int, int]) -> None:
    folder = publish_tiny_translator(tmp_path, shape=shape, torchscript=True)
    engine = load(folder, backend)
    for rows in (1, 2, 7):
        pixels = example_rows(read_card(folder).input, 3, rows)
        pixels.setflags(write=False)  # as those are that a request brings
        result = engine.run(pixels, BOTH)
        np.testing.assert_array_equal(result["pixels"], tiny_translation(pixels))
        np.testing.assert_allclose(result["images"], tiny_translation_images(pixels), atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_wanted_outputs_come_back(tmp_path: Path, backend: Backend) -> None:
    engine = load(publish_tiny_bundle(tmp_path, torchscript=True), backend)
    assert set(engine.run(latents_from_seed(0, 1, 4), frozenset({"pixels"}))) == {"pixels"}


@pytest.mark.parametrize(("backend", "file_name"), [("onnx", ONNX_FILE), ("torchscript", TORCHSCRIPT_FILE)])
def test_a_file_that_was_tampered_with_is_refused_before_it_is_read(
    tmp_path: Path, backend: Backend, file_name: str
) -> None:
    folder = publish_tiny_bundle(tmp_path, torchscript=True)
    with (folder / file_name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="sha256"):
        load(folder, backend)


@pytest.mark.parametrize("stray", [".DS_Store", "README.md", "Thumbs.db", "weights.bin"])
def test_a_file_that_is_not_part_of_the_bundle_does_no_harm(tmp_path: Path, stray: str) -> None:
    folder = publish_tiny_bundle(tmp_path)
    (folder / stray).write_bytes(b"junk")
    (folder / "__pycache__").mkdir()
    load(folder)


def test_a_backend_that_was_not_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"lists no model\.pt"):
        load(publish_tiny_bundle(tmp_path), "torchscript")


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "z"


def drop_pixels(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def fix_rows(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3


def answer_float_pixels(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute[0].i = onnx.TensorProto.FLOAT
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def answer_nan(model: onnx.ModelProto) -> None:
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]) * np.float32("nan")
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "weights"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_input, "maps z to images, pixels, not latents to images and pixels"),
        (drop_pixels, "maps latents to images, not"),
        (fix_rows, r"latents is tensor\(float\) \[3, 4\]"),
        (answer_float_pixels, r"pixels is tensor\(float\)"),
        (answer_nan, "images are not finite"),
    ],
)
def test_a_graph_that_does_not_match_the_card_is_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    with pytest.raises(BundleError, match=message) as error:
        load(publish_tiny_bundle(tmp_path, change_graph=change))
    assert "\n" not in str(error.value)


def take_floats(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"change_graph": rename_input}, "maps z to images, pixels, not input_pixels to images and pixels"),
        ({"change_graph": take_floats}, r"input_pixels is tensor\(float\) .* the card says tensor\(uint8\)"),
        (
            {"card_input": ImageInput(channels=3, height=6, width=4)},
            r"input_pixels is tensor\(uint8\) .* the card says tensor\(uint8\) \['rows', 6, 4, 3\]",
        ),
    ],
)
def test_a_translator_whose_input_does_not_match_the_card_is_refused(
    tmp_path: Path, spoiled: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        load(publish_tiny_translator(tmp_path, **spoiled))


def test_a_torchscript_translator_that_does_not_match_the_card_is_refused(tmp_path: Path) -> None:
    card_input = ImageInput(channels=3, height=6, width=4)
    folder = publish_tiny_translator(tmp_path, torchscript=True, card_input=card_input)
    with pytest.raises(BundleError, match="the card says"):
        load(folder, "torchscript")


class WrongEngine:
    """Computes one row correctly, and more rows wrongly."""

    backend: Backend = "torchscript"
    device = "cpu"
    precision: Precision = "fp32"
    threads = 1
    has_loop = False

    def __init__(self, wrong: Callable[[np.ndarray[Any, Any]], dict[str, Any]]) -> None:
        self._wrong = wrong

    def run(self, latents: np.ndarray[Any, Any], outputs: frozenset[str]) -> dict[str, Any]:
        right = {"images": tiny_images(latents), "pixels": tiny_pixels(latents)}
        return right if len(latents) == 1 else right | self._wrong(latents)


def fail(latents: np.ndarray[Any, Any]) -> dict[str, Any]:
    raise RuntimeError("first line\nsecond line")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda z: {"pixels": tiny_pixels(z).transpose(0, 3, 1, 2)}, r"pixels are uint8 \(8, 3, 4, 6\) for 8"),
        (lambda z: {"images": tiny_images(z).astype(np.float64)}, "images are float64"),
        (lambda z: {"images": tiny_images(z)[:1]}, r"images are float32 \(1, 3, 4, 6\) for 8 rows"),
        (lambda z: {"images": tiny_images(z) * np.float32("inf")}, "images are not finite"),
        (fail, r"the graph fails on 8 rows \(RuntimeError: first line\)"),
    ],
)
def test_the_warm_up_detects_errors_that_only_batches_show(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message) as error:
        warm_up(WrongEngine(wrong), read_card(publish_tiny_bundle(tmp_path)), 8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_card_with_another_image_shape_is_refused(tmp_path: Path, backend: Backend) -> None:
    with pytest.raises(BundleError, match="the card says"):
        load(publish_tiny_bundle(tmp_path, torchscript=True, card_shape=(3, 6, 4)), backend)


@pytest.mark.parametrize(("backend", "file_name"), [("onnx", ONNX_FILE), ("torchscript", TORCHSCRIPT_FILE)])
def test_a_file_that_is_not_a_graph_is_refused_in_one_line(tmp_path: Path, backend: Backend, file_name: str) -> None:
    from server.engines.onnx_cpu import OnnxEngine
    from server.engines.torchscript import TorchScriptEngine

    folder = publish_tiny_bundle(tmp_path)
    graph = GraphFile(folder / file_name, b"junk")
    with pytest.raises(BundleError, match="export the model again") as error:
        OnnxEngine(graph, read_card(folder), 1) if backend == "onnx" else TorchScriptEngine(graph, "cpu", 1)
    assert "\n" not in str(error.value)
