"""The variants of a bundle in reduced precision: a table, and how one is written, measured and perhaps refused.

Each has the interface of the files in float32, so that every engine serves it alike. Knows nothing of the repository.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from exporter.bundle import VARIANT_FILES, Fidelity
from exporter.errors import ExportError, first_line
from exporter.fidelity import LIMITS, measure_fidelity, unwritten
from exporter.fold import fold_batch_norms
from exporter.graph import ServedGraph, served_graph
from exporter.onnx_graph import write_onnx
from exporter.reduced import Reduced
from exporter.source import Source
from exporter.torchscript import write_torchscript
from exporter.verify import Runner, onnx_runner, torchscript_runner

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """One reduced precision, and the format it is written in."""

    dtype: torch.dtype
    channels_last: bool
    write: Callable[[nn.Module, str, Tensor, Path], None]  # graph, name of its input, example rows, where to
    open: Callable[[Path, str], Runner]


def _write_torchscript(graph: nn.Module, input_name: str, rows: Tensor, path: Path) -> None:
    write_torchscript(graph, rows, path)  # which takes its input by position


def _open_torchscript(path: Path, input_name: str) -> Runner:
    return torchscript_runner(path)


VARIANTS: Final[Mapping[str, Variant]] = {
    # For CPUs, where TorchScript computes in bfloat16 and ONNX Runtime does not.
    "bf16": Variant(torch.bfloat16, True, _write_torchscript, _open_torchscript),
    # For CUDA. It is measured on the CPU, where ONNX Runtime casts back to float32 around each node that it cannot
    # compute in float16: the figures are of the rounded weights, and leave out what rounded activations add.
    "fp16": Variant(torch.float16, False, write_onnx, onnx_runner),
}


def build_variant(
    precision: str,
    source: Source,
    reference: ServedGraph,
    example: Tensor,
    staged: Path,
    announce: Announce,
    *,
    fold: bool,
) -> Fidelity:
    """Writes one variant into `staged` and measures it; takes it away again if it is not close enough.

    A variant that is refused is no error: one line, by `announce`, says so and why.

    Args:
        precision: a key of `VARIANTS`.
        source: the network in float32; it is not changed.
        reference: the graph in float32 that the variant is compared with.
        example: rows to trace with.
        staged: where the file goes, under its name in `VARIANT_FILES`.
        announce: called with the name of each step as it begins.
        fold: fold BatchNorms first.
    """
    variant, path = VARIANTS[precision], staged / VARIANT_FILES[precision]
    announce(f"write and measure {precision}")
    try:
        fidelity = _write_and_measure(variant, source, reference, example, path, fold=fold)
    except ExportError as error:
        fidelity, reason = unwritten(), str(error)
    else:
        reason = f"{fidelity}; {LIMITS}"
    if not fidelity.published:
        path.unlink(missing_ok=True)
        announce(f"refuse {precision}, and go on without {path.name}: {reason}")
    return fidelity


def _write_and_measure(
    variant: Variant, source: Source, reference: ServedGraph, example: Tensor, path: Path, *, fold: bool
) -> Fidelity:
    try:
        network = fold_batch_norms(source.network) if fold else copy.deepcopy(source.network)
        reduced = Reduced(network, variant.dtype, channels_last=variant.channels_last)
        graph = served_graph(reduced, source.input, source.value_min, source.value_max)
        variant.write(graph, source.input.name, example, path)
        run = variant.open(path, source.input.name)
        return measure_fidelity(reference, run, source.input)
    except (ExportError, OSError):
        raise
    except Exception as error:  # of anyone's network, of two runtimes
        name = str(variant.dtype).removeprefix("torch.")
        raise ExportError(f"the network does not run in {name} ({first_line(error)})") from error
