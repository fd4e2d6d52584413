"""Writes the served graph as TorchScript."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

_SOURCE_MAP_SUFFIX = ".debug_pkl"


def write_torchscript(graph: nn.Module, example_rows: Tensor, path: Path) -> None:
    """Traces `graph` and writes it to `path`, without source maps, which hold local paths.

    Parameters stay parameters (the module is not frozen), so a loaded file can move to another device or dtype.

    Args:
        graph: In eval mode, on the CPU.
        example_rows: Input to trace with, at least 2 rows: a batch of 1 would become a constant.
        path: The file to write.
    """
    with quiet_torchscript(), torch.no_grad():
        # check_trace is off because the parity check is stricter, and checks the written file.
        traced = torch.jit.trace(graph, (example_rows,), check_trace=False)  # type: ignore[no-untyped-call]
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
    with zipfile.ZipFile(buffer) as full, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as stripped:
        for record in full.infolist():
            if not record.filename.endswith(_SOURCE_MAP_SUFFIX):
                stripped.writestr(record, full.read(record))


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Silences TorchScript's deprecation and tracer warnings; the parity check decides whether a trace is right."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is (deprecated|not supported)")
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
