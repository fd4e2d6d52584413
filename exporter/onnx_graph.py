"""Writes the served graph as one ONNX file. Knows nothing of TorchScript, the repository or parity."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import onnx
import torch
from google.protobuf.message import Message
from torch import Tensor, nn

from exporter.errors import ExportError
from exporter.fold import count_batch_norms
from ganserve.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS
from ganserve.foreign import first_line

OPSET: Final = 18


def write_onnx(graph: nn.Module, input_name: str, example_rows: Tensor, path: Path) -> None:
    """Exports `graph` to `path` with a dynamic batch axis, stripped of all that describes this machine.

    Args:
        graph: in eval mode, on CPU.
        input_name: of the graph's input, see `exporter.bundle`.
        example_rows: what it takes, by shape and dtype; above 1 row: a batch of 1 would become a constant.
        path: where to write; the weights lie in the same file.

    Raises:
        ExportError: PyTorch cannot express the graph in ONNX with a free batch size.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # PyTorch 2.11 warns of its own code.
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            program = torch.onnx.export(
                graph,
                (example_rows,),
                dynamo=True,
                verbose=False,
                input_names=[input_name],
                output_names=[OUTPUT_IMAGES, OUTPUT_PIXELS],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                opset_version=OPSET,
            )
        assert program is not None  # only the old exporter returns none
        model = program.model_proto
    except Exception as error:
        # The cause chain of torch.onnx ends with what a user can act on; its own message is pages of advice.
        cause = error.__cause__ or error
        raise ExportError(
            f"the network cannot be exported to ONNX ({first_line(cause)}); its forward must not depend on the values"
            " of its input or on the batch size"
        ) from error
    strip_metadata(model)
    check_folded(model, batch_norms=count_batch_norms(graph))
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"PyTorch wrote an invalid ONNX graph ({first_line(error)}); use other layers") from error
    path.write_bytes(model.SerializeToString(deterministic=True))


def strip_metadata(message: Message) -> None:
    """Clears every doc_string and metadata_props of a model: PyTorch keeps stack traces, with local paths, in them."""
    for field, value in message.ListFields():
        if field.name in {"doc_string", "metadata_props"}:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in value if isinstance(value, Iterable) else [value]:
                strip_metadata(child)


def check_folded(model: onnx.ModelProto, *, batch_norms: int) -> None:
    """Checks that no more BatchNorms are in the graph than the module could not fold.

    Raises:
        ExportError: there are more.
    """
    left = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    if left > batch_norms:
        raise ExportError(f"{left} BatchNormalization nodes in the ONNX graph, but at most {batch_norms} were expected")
