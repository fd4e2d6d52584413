"""Runs a bundle's graph with ONNX Runtime on the CPU; cuda_engine.py does on CUDA.

Knows no other runtime, and no bundle but the file and card it is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exporter.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS, BundleError, Card
from server.config import Backend, Precision
from server.engine import first_line, output_forms

_CPU_PROVIDER = "CPUExecutionProvider"
_ONNX_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}  # by a card's dtype
_ORT_ERRORS_ONLY = 3  # ONNX Runtime warns of every GPU that it looks for and does not find


class OnnxEngine:
    """Runs model.onnx, or model.fp16.onnx, with ONNX Runtime.

    `run` may be called by several threads at once: each call takes part of one pool of `threads` threads, its own
    thread counted, so one thread a call is right where several calls run side by side.

    Args:
        path: of the verified file.
        card: of the bundle.
        threads: that a call uses on the CPU.
        precision: of the file; fp16 is meant for CUDA (on the CPU, ONNX Runtime casts to float32 around most nodes).

    Raises:
        BundleError: the file is no graph, or not the one the card describes.
    """

    backend: Backend = "onnx"
    device = "cpu"

    def __init__(self, path: Path, card: Card, threads: int, *, precision: Precision = "fp32") -> None:
        onnxruntime.set_default_logger_severity(_ORT_ERRORS_ONLY)
        self.threads = threads
        self.precision: Precision = precision
        try:
            self._session = onnxruntime.InferenceSession(path, session_options(threads), providers=[_CPU_PROVIDER])
        except Exception as error:
            raise BundleError(f"{path}: not a graph that runs ({first_line(error)}); export the model again") from error
        self._input_name = card.input.name
        check_graph(self._session, card, path)

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """See `Engine`."""
        names = sorted(outputs)
        return dict(zip(names, self._session.run(names, {self._input_name: inputs}), strict=True))


def session_options(threads: int) -> Any:
    """Options of a session, onnxruntime.SessionOptions, whose calls use so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ORT_ERRORS_ONLY
    # Threads that spin within a call make it a quarter faster; spinning on, they would take the cores from others.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def check_graph(session: Any, card: Card, path: Path) -> None:
    """Checks the names, types and shapes of an onnxruntime session against the card.

    Raises:
        BundleError: they are not the card's.
    """
    forms = {card.input.name: (np.dtype(card.input.dtype), card.input.row_shape)} | output_forms(card)
    expected = {name: (_ONNX_TYPES[str(dtype)], shape) for name, (dtype, shape) in forms.items()}
    inputs = {node.name: node for node in session.get_inputs()}
    nodes = inputs | {node.name: node for node in session.get_outputs()}
    if set(inputs) != {card.input.name} or not nodes.keys() >= expected.keys():
        raise BundleError(
            f"{path}: maps {', '.join(sorted(inputs))} to {', '.join(sorted(nodes.keys() - inputs.keys()))}, not"
            f" {card.input.name} to {OUTPUT_IMAGES} and {OUTPUT_PIXELS}; export the model again"
        )
    for name, (kind, shape) in expected.items():
        node = nodes[name]
        # A symbolic size is checked by the warm-up; a fixed number of rows can never be batched.
        fits = len(node.shape) == 1 + len(shape) and all(
            not isinstance(actual, int) or actual == wanted
            for actual, wanted in zip(node.shape[1:], shape, strict=True)
        )
        if node.type != kind or not fits or isinstance(node.shape[0], int):
            raise BundleError(
                f"{path}: {name} is {node.type} {node.shape}, and the card says {kind} ['rows', "
                f"{', '.join(map(str, shape))}]; export the model again"
            )
