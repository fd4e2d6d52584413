"""A tiny graph, which needs no export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers.served_graph import ServedGraph


@pytest.fixture(scope="session")
def tiny_graph(tmp_path_factory: pytest.TempPathFactory) -> ServedGraph:
    """Eight latents become an image of 1 x 2 x 3."""
    weights = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
    shape = np.array([-1, 1, 2, 3])
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["latents", "weights"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["images"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["rows", 8])],
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["rows", 1, 2, 3])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(shape, "shape")],
    )
    folder: Path = tmp_path_factory.mktemp("tiny")
    path = folder / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return ServedGraph("tiny", 8, (1, 2, 3), folder / "models", path)
