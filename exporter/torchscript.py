"""Writes the served graph as TorchScript. Knows nothing of ONNX, the repository or parity."""

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
    """Traces `graph` and writes it to `path`, without source maps: they hold the paths of this machine.

    Parameters stay parameters (the module is not frozen), so that whoever loads the file can move it to another device
    or dtype.

    Args:
        graph: in eval mode, on CPU.
        example_rows: what it takes, by shape and dtype; above 1 row, so that no batch size of 1 is taken for a
            constant.
        path: where to write.
    """
    with quiet_torchscript(), torch.no_grad():
        # No check_trace: the parity proof is stricter, and reads the file.
        traced = torch.jit.trace(graph, (example_rows,), check_trace=False)  # type: ignore[no-untyped-call]
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
    with zipfile.ZipFile(buffer) as full, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as stripped:
        for record in full.infolist():
            if not record.filename.endswith(_SOURCE_MAP_SUFFIX):
                stripped.writestr(record, full.read(record))


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Silences TorchScript's deprecation notices, and the tracer's guesses: the parity proof decides."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is (deprecated|not supported)")
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
