"""Writes the served graph as one ONNX file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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

_TORCH_FOLDER: Final = Path(torch.__file__).parent


def write_onnx(graph: nn.Module, input_name: str, example_rows: Tensor, path: Path, *, from_trace: bool = True) -> bool:
    """Exports `graph` to `path` with a dynamic batch axis, without stack traces and local paths.

    PyTorch has two exporters: the older one converts a TorchScript trace, in a few milliseconds; the newer one,
    torch.export, imports the compiler and builds a library of operators first, which takes seconds. Both give graphs of
    the same speed. See docs/decisions/0027-what-export-time-is-made-of.md.

    Args:
        graph: In eval mode, on the CPU.
        input_name: Name of the graph's input, `INPUT_LATENTS` or `INPUT_PIXELS`.
        example_rows: Input to trace with, at least 2 rows: a batch of 1 would become a constant.
        path: The file to write; it holds the weights too.
        from_trace: Try the older exporter first.

    Returns:
        Whether the file comes from a trace. If it does not match the network, call again without `from_trace`.

    Raises:
        ExportError: PyTorch cannot express the graph in ONNX with a dynamic batch size.
    """
    model = _from_trace(graph, input_name, example_rows) if from_trace else None
    traced = model is not None and _fault_of(model) is None
    if model is None or not traced:
        model = _from_torch_export(graph, input_name, example_rows)
        if (fault := _fault_of(model)) is not None:
            raise ExportError(
                f"PyTorch wrote an invalid ONNX graph of the network ({first_line(fault)}); use other layers"
            ) from fault
    strip_metadata(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return traced


def _fault_of(model: onnx.ModelProto) -> Exception | None:
    """Why ONNX refuses the graph, for example because of the types of its tensors; None if it does not."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return error
    return None


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Turns off the fused kernels of nn.MultiheadAttention and nn.TransformerEncoderLayer, which ONNX does not have."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _from_trace(graph: nn.Module, input_name: str, example_rows: Tensor) -> onnx.ModelProto | None:
    """The graph by the older exporter; None if it fails, or if the network's own code depends on values of its input.

    A trace records one path through such code. PyTorch warns of it, as it does of the checks inside its own layers,
    which raise an error or do nothing.
    """
    names = (input_name, OUTPUT_IMAGES, OUTPUT_PIXELS)
    buffer = io.BytesIO()
    # torch.onnx.export turns on a log of whole graphs on stdout before it calls the graph, whatever `verbose` says
    # (PyTorch 2.11: setup_onnx_logging tests a function instead of calling it).
    quiet = graph.register_forward_pre_hook(lambda *_: torch._C._jit_set_onnx_log_enabled(False))
    try:
        with torch.no_grad(), _without_fused_attention(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.onnx.export(
                graph,
                (example_rows,),
                buffer,  # type: ignore[arg-type]  # any binary file works
                dynamo=False,
                input_names=[input_name],
                output_names=[OUTPUT_IMAGES, OUTPUT_PIXELS],
                dynamic_axes={name: {0: "rows"} for name in names},
                opset_version=OPSET,
            )
    except Exception:  # noqa: BLE001  # unknown layers, or removed from PyTorch: the other exporter tries next
        return None
    finally:
        quiet.remove()
    for warning in caught:
        is_tracer_warning = issubclass(warning.category, torch.jit.TracerWarning)  # type: ignore[attr-defined]
        if is_tracer_warning and not Path(warning.filename).is_relative_to(_TORCH_FOLDER):
            return None
    return onnx.load_model_from_string(buffer.getvalue())


def _from_torch_export(graph: nn.Module, input_name: str, example_rows: Tensor) -> onnx.ModelProto:
    """The graph by torch.export.

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
        return program.model_proto
    except Exception as error:
        # The cause names what the user can change; torch.onnx's own message is pages of advice.
        cause = error.__cause__ or error
        raise ExportError(
            f"cannot export the network to ONNX ({first_line(cause)}); its forward must not depend on the values"
            " of its input or on the batch size"
        ) from error


def strip_metadata(message: Message) -> None:
    """Clears every doc_string and metadata_props of a model; PyTorch stores stack traces with local paths there."""
    for field, value in message.ListFields():
        if field.name in {"doc_string", "metadata_props"}:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in value if isinstance(value, Iterable) else [value]:
                strip_metadata(child)
