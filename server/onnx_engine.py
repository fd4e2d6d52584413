"""Runs a bundle's graph with ONNX Runtime. Knows no other runtime, and no bundle but the file and card it is given."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exporter.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS, BundleError, Card
from server.config import Backend, Device, Precision
from server.engine import cuda_devices, first_line, output_forms
from server.errors import StartupError

_log = logging.getLogger(__name__)
_CUDA_PROVIDER = "CUDAExecutionProvider"
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
        device: "auto" takes CUDA if it works.
        threads: that a call uses on the CPU.
        precision: of the file; fp16 is meant for CUDA (on the CPU, ONNX Runtime casts to float32 around most nodes).

    Raises:
        BundleError: the file is no graph, or not the one the card describes.
        StartupError: CUDA was asked for and does not work.
    """

    backend: Backend = "onnx"

    def __init__(self, path: Path, card: Card, device: Device, threads: int, *, precision: Precision = "fp32") -> None:
        onnxruntime.set_default_logger_severity(_ORT_ERRORS_ONLY)
        self.threads = threads
        self.precision: Precision = precision
        options = session_options(threads)
        providers: list[Any] = [_CPU_PROVIDER]
        wanted = device != "cpu" and cuda_devices() > 0
        if wanted and _CUDA_PROVIDER in onnxruntime.get_available_providers():
            with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
                onnxruntime.preload_dlls()  # finds the CUDA libraries that are installed as Python packages
            # DEFAULT would mean cuDNN's slow fallback mode; EXHAUSTIVE tries every algorithm at every new shape.
            providers.insert(0, (_CUDA_PROVIDER, {"cudnn_conv_algo_search": "HEURISTIC"}))
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:
            raise BundleError(f"{path}: not a graph that runs ({first_line(error)}); export the model again") from error
        on_cuda = _CUDA_PROVIDER in self._session.get_providers()  # it falls back to the CPU without an error
        if device == "cuda" and not on_cuda:
            raise StartupError(
                "--device cuda: ONNX Runtime cannot use CUDA here; install onnxruntime-gpu with its CUDA libraries and"
                " an NVIDIA driver, or use --device cpu"
            )
        if wanted and not on_cuda:
            _log.warning("there is a CUDA device, but ONNX Runtime cannot use it, so the CPU does the work")
        self.device = "cuda:0" if on_cuda else "cpu"
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
