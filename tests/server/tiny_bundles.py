"""Publishes tiny generators that any test can serve, and says what they compute."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporter.bundle import (
    INPUT_LATENTS,
    ONNX_FILE,
    OUTPUT_IMAGES,
    OUTPUT_PIXELS,
    TORCHSCRIPT_FILE,
    Card,
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


def tiny_graph(
    seed: int = 0, latent_dim: int = LATENT_DIM, shape: tuple[int, int, int] = IMAGE_SHAPE, rows: int | str = "rows"
) -> onnx.ModelProto:
    """Gemm, Reshape, Tanh, and the uint8 head."""
    channels, height, width = shape
    constants = {
        "weights": tiny_weights(seed, latent_dim, shape),
        "shape": np.array([-1, *shape], np.int64),
        "one": np.array(1, np.float32),
        "scale": np.array(127.5, np.float32),
        "zero": np.array(0, np.float32),
        "most": np.array(255, np.float32),
    }
    nodes = [
        helper.make_node("Gemm", [INPUT_LATENTS, "weights"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["raw"]),
        helper.make_node("Tanh", ["raw"], [OUTPUT_IMAGES]),
        helper.make_node("Transpose", [OUTPUT_IMAGES], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Add", ["nhwc", "one"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "scale"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "zero", "most"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], [OUTPUT_PIXELS], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT_LATENTS, TensorProto.FLOAT, [rows, latent_dim])],
        [
            helper.make_tensor_value_info(OUTPUT_IMAGES, TensorProto.FLOAT, [rows, channels, height, width]),
            helper.make_tensor_value_info(OUTPUT_PIXELS, TensorProto.UINT8, [rows, height, width, channels]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


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
        repository: the model repository; made if it does not exist.
        name: of the model.
        version: of the model.
        seed: of the weights.
        latent_dim: latent size.
        shape: channels, height, width.
        torchscript: write model.pt too (this imports torch, which takes seconds).
        change_graph: spoils the ONNX graph before it is written.
        card_shape: what the card says instead of `shape`.
    """
    channels, height, width = card_shape or shape
    graph = tiny_graph(seed, latent_dim, shape)
    if change_graph is not None:
        change_graph(graph)
    with staging_folder(repository) as staged:
        (staged / ONNX_FILE).write_bytes(graph.SerializeToString())
        if torchscript:
            _write_torchscript(staged / TORCHSCRIPT_FILE, seed, latent_dim, shape)
        card = Card(
            name=name,
            version=version,
            kind="dcgan",
            architecture="tiny",
            dataset="noise",
            latent_dim=latent_dim,
            channels=channels,
            height=height,
            width=width,
            files={path.name: sha256_of(path) for path in staged.iterdir()},
            parity=[],
            training={},
            tool_versions={},
        )
        return publish(repository, staged, card)


def _write_torchscript(path: Path, seed: int, latent_dim: int, shape: tuple[int, int, int]) -> None:
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

    jit: Any = torch.jit  # untyped
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
        jit.save(jit.trace(Tiny().eval(), torch.zeros(2, latent_dim)), str(path))
