"""Publishes tiny generators and translators that any test can serve, and computes what they must return."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ganserve.bundle import (
    INPUT_LATENTS,
    INPUT_PIXELS,
    ONNX_FILE,
    OUTPUT_IMAGES,
    OUTPUT_PIXELS,
    TORCHSCRIPT_FILE,
    Card,
    ImageInput,
    LatentInput,
    RowInput,
    publish,
    sha256_of,
    staging_folder,
)

LATENT_DIM = 4
IMAGE_SHAPE = (3, 4, 6)  # channels, height, width


def tiny_weights(seed: int, latent_dim: int = LATENT_DIM, shape: tuple[int, int, int] = IMAGE_SHAPE) -> NDArray[Any]:
    """The one matrix of a tiny generator, (latent_dim, channels * height * width)."""
    generator = np.random.default_rng(seed)
    weights: NDArray[Any] = generator.standard_normal((latent_dim, int(np.prod(shape))), dtype=np.float32)
    return weights


def tiny_images(latents: NDArray[np.float32], seed: int = 0, shape: tuple[int, int, int] = IMAGE_SHAPE) -> NDArray[Any]:
    """The images (rows, channels, height, width) that a tiny generator must compute."""
    images: NDArray[Any] = np.tanh(latents @ tiny_weights(seed, latents.shape[1], shape))
    return images.reshape(-1, *shape)


def tiny_pixels(latents: NDArray[np.float32], seed: int = 0, shape: tuple[int, int, int] = IMAGE_SHAPE) -> NDArray[Any]:
    """The pixels (rows, height, width, channels) that a tiny generator must compute."""
    images = tiny_images(latents, seed, shape).transpose(0, 2, 3, 1)
    return np.clip(np.round((images + 1) * 127.5), 0, 255).astype(np.uint8)


def tiny_translation(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels that a tiny translator must compute, exactly: the negative, with the channels in reverse order."""
    return 255 - pixels[..., ::-1]


def tiny_translation_images(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The images (rows, channels, height, width) that a tiny translator must compute."""
    return (tiny_translation(pixels) / np.float32(127.5) - 1).astype(np.float32).transpose(0, 3, 1, 2)


def tiny_graph(
    seed: int = 0, latent_dim: int = LATENT_DIM, shape: tuple[int, int, int] = IMAGE_SHAPE, rows: int | str = "rows"
) -> onnx.ModelProto:
    """Gemm, Reshape, Tanh, and the uint8 head."""
    constants = {
        "weights": tiny_weights(seed, latent_dim, shape),
        "shape": np.array([-1, *shape], np.int64),
        "one": np.array(1, np.float32),
        "scale": np.array(127.5, np.float32),
    }
    nodes = [
        helper.make_node("Gemm", [INPUT_LATENTS, "weights"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["raw"]),
        helper.make_node("Tanh", ["raw"], [OUTPUT_IMAGES]),
        helper.make_node("Transpose", [OUTPUT_IMAGES], ["nhwc"], perm=[0, 2, 3, 1]),
    ]
    latents = helper.make_tensor_value_info(INPUT_LATENTS, TensorProto.FLOAT, [rows, latent_dim])
    return _with_pixels_head(nodes, constants, latents, rows, shape)


def tiny_translator_graph(shape: tuple[int, int, int] = IMAGE_SHAPE, rows: int | str = "rows") -> onnx.ModelProto:
    """Cast, scale to 1..-1, reverse the channels, and the uint8 head."""
    channels, height, width = shape
    constants: dict[str, NDArray[Any]] = {
        "one": np.array(1, np.float32),
        "scale": np.array(127.5, np.float32),
        "reversed": np.arange(channels)[::-1].copy(),
    }
    nodes = [
        helper.make_node("Cast", [INPUT_PIXELS], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "scale"], ["scaled_in"]),
        helper.make_node("Sub", ["one", "scaled_in"], ["negative"]),
        helper.make_node("Gather", ["negative", "reversed"], ["nhwc"], axis=3),
        helper.make_node("Transpose", ["nhwc"], [OUTPUT_IMAGES], perm=[0, 3, 1, 2]),
    ]
    pixels = helper.make_tensor_value_info(INPUT_PIXELS, TensorProto.UINT8, [rows, height, width, channels])
    return _with_pixels_head(nodes, constants, pixels, rows, shape)


def publish_tiny_bundle(
    repository: Path,
    name: str = "tiny",
    version: int = 1,
    *,
    seed: int = 0,
    latent_dim: int = LATENT_DIM,
    shape: tuple[int, int, int] = IMAGE_SHAPE,
    torchscript: bool = False,
    change_graph: Callable[[onnx.ModelProto], object] | None = None,
    card_shape: tuple[int, int, int] | None = None,
) -> Path:
    """Publishes a tiny generator; returns the folder of its version.

    Args:
        repository: the model repository; created if it does not exist.
        name: name of the model.
        version: version of the model.
        seed: seed of the weights.
        latent_dim: latent size.
        shape: channels, height, width.
        torchscript: write model.pt too (this imports torch, which takes seconds).
        change_graph: spoils the ONNX graph before it is written.
        card_shape: what the card says instead of `shape`.
    """
    graph = tiny_graph(seed, latent_dim, shape)
    if change_graph is not None:
        change_graph(graph)

    def write_torchscript(path: Path) -> None:
        _write_torchscript_generator(path, seed, latent_dim, shape)

    row_input = LatentInput(latent_dim=latent_dim)
    write = write_torchscript if torchscript else None
    return _publish(repository, name, version, "dcgan", row_input, card_shape or shape, graph, write)


def publish_tiny_translator(
    repository: Path,
    name: str = "tiny-a2b",
    version: int = 1,
    *,
    shape: tuple[int, int, int] = IMAGE_SHAPE,
    torchscript: bool = False,
    change_graph: Callable[[onnx.ModelProto], object] | None = None,
    card_input: ImageInput | None = None,
) -> Path:
    """Publishes a tiny image-to-image translator, which computes `tiny_translation`; returns its version's folder.

    Args:
        repository: the model repository; created if it does not exist.
        name: name of the model.
        version: version of the model.
        shape: channels, height, width of input and output images.
        torchscript: write model.pt too (this imports torch, which takes seconds).
        change_graph: spoils the ONNX graph before it is written.
        card_input: what the card says instead of `shape` about the input images.
    """
    graph = tiny_translator_graph(shape)
    if change_graph is not None:
        change_graph(graph)

    def write_torchscript(path: Path) -> None:
        _write_torchscript_translator(path, shape)

    channels, height, width = shape
    row_input = card_input or ImageInput(channels=channels, height=height, width=width)
    write = write_torchscript if torchscript else None
    return _publish(repository, name, version, "cyclegan", row_input, shape, graph, write)


def _with_pixels_head(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[Any]],
    row_input: onnx.ValueInfoProto,
    rows: int | str,
    shape: tuple[int, int, int],
) -> onnx.ModelProto:
    """Adds the nodes that turn "nhwc" (-1..1, rounded with "one" and "scale") into pixels."""
    channels, height, width = shape
    constants = {**constants, "zero": np.array(0, np.float32), "most": np.array(255, np.float32)}
    nodes = [
        *nodes,
        helper.make_node("Add", ["nhwc", "one"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "scale"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "zero", "most"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], [OUTPUT_PIXELS], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [row_input],
        [
            helper.make_tensor_value_info(OUTPUT_IMAGES, TensorProto.FLOAT, [rows, channels, height, width]),
            helper.make_tensor_value_info(OUTPUT_PIXELS, TensorProto.UINT8, [rows, height, width, channels]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def _publish(
    repository: Path,
    name: str,
    version: int,
    kind: str,
    row_input: RowInput,
    shape: tuple[int, int, int],
    graph: onnx.ModelProto,
    write_torchscript: Callable[[Path], None] | None,
) -> Path:
    channels, height, width = shape
    with staging_folder(repository) as staged:
        (staged / ONNX_FILE).write_bytes(graph.SerializeToString())
        if write_torchscript is not None:
            write_torchscript(staged / TORCHSCRIPT_FILE)
        card = Card(
            name=name,
            version=version,
            kind=kind,
            architecture="tiny",
            dataset="noise",
            input=row_input,
            channels=channels,
            height=height,
            width=width,
            files={path.name: sha256_of(path) for path in staged.iterdir()},
            parity=[],
            training={},
            tool_versions={},
        )
        return publish(repository, [(staged, card)])[0]


def _write_torchscript_generator(path: Path, seed: int, latent_dim: int, shape: tuple[int, int, int]) -> None:
    import torch

    weights = torch.from_numpy(tiny_weights(seed, latent_dim, shape))

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.Parameter(weights, requires_grad=False)

        def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            images = torch.tanh(latents @ self.weights).reshape(-1, *shape)
            pixels = ((images.permute(0, 2, 3, 1) + 1) * 127.5).round().clip(0, 255).to(torch.uint8)
            return images, pixels

    _save_traced(Tiny(), torch.zeros(2, latent_dim), path)


def _write_torchscript_translator(path: Path, shape: tuple[int, int, int]) -> None:
    import torch

    channels, height, width = shape

    class TinyTranslator(torch.nn.Module):
        def forward(self, input_pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            negative = (1 - input_pixels.float() / 127.5).flip(3)
            pixels = ((negative + 1) * 127.5).round().clip(0, 255).to(torch.uint8)
            return negative.permute(0, 3, 1, 2).contiguous(), pixels

    _save_traced(TinyTranslator(), torch.zeros(2, height, width, channels, dtype=torch.uint8), path)


def _save_traced(module: Any, example: Any, path: Path) -> None:
    import torch

    jit: Any = torch.jit  # untyped
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
        jit.save(jit.trace(module.eval(), example), str(path))
