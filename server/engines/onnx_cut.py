"""Cuts an ONNX graph down to some of its outputs.

ONNX Runtime computes all nodes of a graph, whichever outputs a run requests, so unwanted outputs must be removed from
the graph. The server does not depend on the `onnx` package, so this file describes the fields that matter; protobuf
preserves unknown fields, such as the weights, byte by byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

_PACKAGE: Final = "ganserve.onnx_cut"
_ONE: Final = FieldDescriptorProto.LABEL_OPTIONAL
_MANY: Final = FieldDescriptorProto.LABEL_REPEATED
# The fields of each message: name, number, label, and message type; None means bytes. Names of values are bytes,
# because they need not be UTF-8; so are subgraphs, because only their presence matters.
_MESSAGES: Final[Mapping[str, Sequence[tuple[str, int, FieldDescriptorProto.Label.ValueType, str | None]]]] = {
    "Model": [("graph", 7, _ONE, "Graph")],
    "Graph": [("node", 1, _MANY, "Node"), ("output", 12, _MANY, "Value")],
    "Node": [("input", 1, _MANY, None), ("output", 2, _MANY, None), ("attribute", 5, _MANY, "Attribute")],
    "Attribute": [("g", 6, _ONE, None), ("graphs", 11, _MANY, None)],
    "Value": [("name", 1, _ONE, None)],
}


def cut_to(model: bytes, outputs: frozenset[str]) -> bytes:
    """Removes the other outputs of a graph and the nodes that only they need.

    Keeps all weights, including unused ones; ONNX Runtime drops those.

    Args:
        model: a serialised ModelProto, below 2 GiB.
        outputs: names of the outputs to keep.

    Returns:
        The smaller model; `model` itself if all nodes are needed, or if any node has a subgraph, which may use outer
        values that are not among the node's inputs.

    Raises:
        ValueError: `model` is not an ONNX model, or its graph lacks one of the outputs.
    """
    parsed: Any = _Model()
    try:
        parsed.ParseFromString(model)
    except DecodeError as error:
        raise ValueError("not an ONNX model") from error
    graph = parsed.graph
    wanted = {name.encode() for name in outputs}
    if missing := sorted(wanted - {output.name for output in graph.output}):
        raise ValueError(f"the graph has no output {missing[0].decode()!r}")
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return model
    needed = _needed_nodes(graph.node, wanted)
    if len(needed) == len(graph.node):
        return model
    for index in reversed(range(len(graph.node))):
        if index not in needed:
            del graph.node[index]
    for index in reversed(range(len(graph.output))):
        if graph.output[index].name not in wanted:
            del graph.output[index]
    cut: bytes = parsed.SerializeToString()
    return cut


def _needed_nodes(nodes: Sequence[Any], wanted: set[bytes]) -> set[int]:
    """Indices of the nodes that the wanted values depend on, directly or indirectly."""
    producers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needed: set[int] = set()
    names = list(wanted)
    while names:
        index = producers.get(names.pop())  # None: a weight, an input, or an omitted optional value
        if index is not None and index not in needed:
            needed.add(index)
            names.extend(nodes[index].input)
    return needed


def _message_class(name: str) -> Any:
    file = FileDescriptorProto(name="ganserve/onnx_cut.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _MESSAGES.items():
        description = file.message_type.add(name=message)
        for field_name, number, label, held in fields:
            field = description.field.add(name=field_name, number=number, label=label)
            if held is None:
                field.type = FieldDescriptorProto.TYPE_BYTES
            else:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{held}"
    pool = DescriptorPool()  # not the default pool, which cannot hold two descriptions of one message
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


_Model: Final = _message_class("Model")
