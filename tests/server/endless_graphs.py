"""Graphs that never end, or ask for more memory than any machine has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def loop_forever(model: onnx.ModelProto) -> None:
    """Makes every run of a tiny generator endless."""
    _insert_loop(model, [helper.make_node("Identity", ["always"], ["go"])])


def loop_forever_if_large(model: onnx.ModelProto) -> None:
    """Makes the runs of a tiny generator endless whose first output value before the tanh is above 1000."""
    nodes = [
        helper.make_node("ReduceMax", ["looped"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "limit"], ["go"]),
    ]
    _insert_loop(model, nodes)


def ask_for_memory(model: onnx.ModelProto) -> None:
    """Makes every run of a tiny generator allocate 100 TiB."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([25 << 40]), "huge"))
    _rename_output(graph, "flat", "small")
    at = _index_of(graph, "small") + 1
    for node in reversed(
        (
            helper.make_node("ReduceMax", ["small"], ["value"], keepdims=0),
            helper.make_node("Expand", ["value", "huge"], ["values"]),
            helper.make_node("ReduceMin", ["values"], ["least"], keepdims=0),
            helper.make_node("Max", ["small", "least"], ["flat"]),
        )
    ):
        graph.node.insert(at, node)


def _insert_loop(model: onnx.ModelProto, condition: Sequence[onnx.NodeProto]) -> None:
    """Passes "raw" through a loop that goes on while the nodes make "go" true."""
    graph = model.graph
    # Conditions read "looped", the value before the loop, from the outer graph.
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["looped_in"], ["looped_out"]),
            *condition,
            helper.make_node("Identity", ["go"], ["goes_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("went", TensorProto.BOOL, []),
            helper.make_tensor_value_info("looped_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("looped_out", TensorProto.FLOAT, None),
        ],
    )
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(True), "always"),
            numpy_helper.from_array(np.array(1 << 62), "rounds"),
            numpy_helper.from_array(np.array(1000, np.float32), "limit"),
        ]
    )
    _rename_output(graph, "raw", "looped")
    loop = helper.make_node("Loop", ["rounds", "always", "looped"], ["raw"], body=body)
    graph.node.insert(_index_of(graph, "looped") + 1, loop)


def _rename_output(graph: onnx.GraphProto, name: str, new: str) -> None:
    graph.node[_index_of(graph, name)].output[0] = new


def _index_of(graph: onnx.GraphProto, output: str) -> int:
    return next(index for index, node in enumerate(graph.node) if output in node.output)
