"""Writes the served graph as one ONNX file."""

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
from ganserve.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS
from ganserve.foreign import first_line

OPSET: Final = 18


def write_onnx(graph: nn.Module, input_name: str, example_rows: Tensor, path: Path) -> None:
    """Exports `graph` to `path` with a dynamic batch axis, without stack traces and local paths.

    Args:
        graph: In eval mode, on the CPU.
        input_name: Name of the graph's input, `INPUT_LATENTS` or `INPUT_PIXELS`.
        example_rows: Input to trace with, at least 2 rows: a batch of 1 would become a constant.
        path: The file to write; it holds the weights too.

    Raises:
        ExportError: PyTorch cannot express the graph in ONNX with a dynamic batch size.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # PyTorch 2.11 triggers this warning itself.
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
        assert program is not None  # only the exporter with dynamo=False returns None
        model = program.model_proto
    except Exception as error:
        # The cause names what the user can change; torch.onnx's own message is pages of advice.
        cause = error.__cause__ or error
        raise ExportError(
            f"cannot export the network to ONNX ({first_line(cause)}); its forward must not depend on the values"
            " of its input or on the batch size"
        ) from error
    strip_metadata(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"PyTorch wrote an invalid ONNX graph ({first_line(error)}); use other layers") from error
    path.write_bytes(model.SerializeToString(deterministic=True))


def strip_metadata(message: Message) -> None:
    """Clears every doc_string and metadata_props of a model; PyTorch stores stack traces with local paths there."""
    for field, value in message.ListFields():
        if field.name in {"doc_string", "metadata_props"}:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in value if isinstance(value, Iterable) else [value]:
                strip_metadata(child)
