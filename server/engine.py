"""Runs a bundle's graph: rows in (latents or images), images out. The only file that knows a runtime.

Two engines, ONNX Runtime and TorchScript; torch is imported only when the latter is asked for. A TorchScript file
holds code, and an ONNX file may name further files, so every file is checked against the card's hash before it is read.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exporter.bundle import (
    CARD_FILE,
    ONNX_FILE,
    OUTPUT_IMAGES,
    OUTPUT_PIXELS,
    TORCHSCRIPT_FILE,
    BundleError,
    Card,
    example_rows,
    verify_file,
)
from server.config import Backend, Device
from server.errors import StartupError

_log = logging.getLogger(__name__)
_CUDA_PROVIDER = "CUDAExecutionProvider"
_CPU_PROVIDER = "CPUExecutionProvider"
_ONNX_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}  # by a card's dtype
_ORT_ERRORS_ONLY = 3  # ONNX Runtime warns of every GPU that it looks for and does not find


class Engine(Protocol):
    """One loaded graph. `run` may be called from any thread, by one at a time."""

    backend: Backend
    device: str  # "cpu", "cuda:0"
    threads: int  # that one call uses on the CPU

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """Computes the wanted outputs of inputs (rows, ...) of the card's row shape and dtype, rows >= 1."""


def load_engine(folder: Path, card: Card, backend: Backend, device: Device) -> Engine:
    """Loads one version of a model, after checking its files.

    Raises:
        BundleError: the version is broken.
        StartupError: the device or the backend cannot be had on this machine.
    """
    path = _verify(folder, card, ONNX_FILE if backend == "onnx" else TORCHSCRIPT_FILE)
    return OnnxEngine(path, card, device) if backend == "onnx" else TorchScriptEngine(path, device)


def warm_up(engine: Engine, card: Card, max_rows: int) -> None:
    """Runs the smallest and the largest batch, and checks that what comes out is what the card says.

    Raises:
        BundleError: it is not, or the graph fails.
    """
    expected = {
        OUTPUT_IMAGES: (np.dtype(np.float32), (card.channels, card.height, card.width)),
        OUTPUT_PIXELS: (np.dtype(np.uint8), (card.height, card.width, card.channels)),
    }
    for rows in sorted({1, max_rows}):
        try:
            results = engine.run(example_rows(card.input, 0, rows), frozenset(expected))
        except Exception as error:
            raise BundleError(
                f"the graph fails on {rows} rows ({_first_line(error)}); export the model again"
            ) from error
        for name, (dtype, shape) in expected.items():
            if (results[name].dtype, results[name].shape) != (dtype, (rows, *shape)):
                raise BundleError(
                    f"{name} come out as {results[name].dtype} {results[name].shape} for {rows} rows, and the card says"
                    f" {dtype} {(rows, *shape)}; export the model again"
                )
        if not np.isfinite(results[OUTPUT_IMAGES]).all():
            raise BundleError(f"{OUTPUT_IMAGES} are not finite numbers; train or export the model again")


class OnnxEngine:
    """Runs model.onnx with ONNX Runtime.

    Args:
        path: of the verified file.
        card: of the bundle.
        device: "auto" takes CUDA if it works.

    Raises:
        BundleError: the file is no graph, or not the one the card describes.
        StartupError: CUDA was asked for and does not work.
    """

    backend: Backend = "onnx"

    def __init__(self, path: Path, card: Card, device: Device) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(_ORT_ERRORS_ONLY)
        self.threads = usable_cores()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ORT_ERRORS_ONLY
        # Threads that spin between batches would take the cores from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
            raise BundleError(
                f"{path}: not a graph that runs ({_first_line(error)}); export the model again"
            ) from error
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
        _check_graph(self._session, card, path)

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """See `Engine`."""
        names = sorted(outputs)
        return dict(zip(names, self._session.run(names, {self._input_name: inputs}), strict=True))


class TorchScriptEngine:
    """Runs model.pt, which holds code, with PyTorch.

    Args:
        path: of the verified file.
        device: "auto" takes CUDA if it works.

    Raises:
        BundleError: the file is no TorchScript.
        StartupError: PyTorch is not installed, or CUDA was asked for and does not work.
    """

    backend: Backend = "torchscript"

    def __init__(self, path: Path, device: Device) -> None:
        try:
            import torch
        except ImportError as error:
            raise StartupError("--backend torchscript: PyTorch is not installed; install it, or use onnx") from error
        works = torch.cuda.is_available()
        if device == "cuda" and not works:
            raise StartupError("--device cuda: PyTorch cannot use CUDA here; install its driver, or use --device cpu")
        self.device = "cuda:0" if works and device != "cpu" else "cpu"
        self.threads = torch.get_num_threads()
        self._torch = torch
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)  # not the user's choice
                jit: Any = torch.jit  # untyped
                self._module = jit.load(str(path), map_location=self.device).eval()
        except RuntimeError as error:
            raise BundleError(f"{path}: not TorchScript ({_first_line(error)}); export the model again") from error

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """See `Engine`."""
        with self._torch.inference_mode():
            # What was sent is a read-only view of the request, which tensors cannot be.
            images, pixels = self._module(self._torch.tensor(inputs, device=self.device))
            results = {OUTPUT_IMAGES: images, OUTPUT_PIXELS: pixels}
            return {name: results[name].cpu().numpy() for name in outputs}


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cuda_devices() -> int:
    """How many devices the NVIDIA driver shows; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _verify(folder: Path, card: Card, file_name: str) -> Path:
    """Checks the file and whatever it might refer to; the other backend's file is not read, so not checked."""
    others = {path.name for path in folder.iterdir()} - {ONNX_FILE, TORCHSCRIPT_FILE, CARD_FILE}
    for other in sorted(others):
        verify_file(folder, card, other)
    return verify_file(folder, card, file_name)


def _check_graph(session: Any, card: Card, path: Path) -> None:
    expected = {
        card.input.name: (_ONNX_TYPES[card.input.dtype], card.input.row_shape),
        OUTPUT_IMAGES: ("tensor(float)", (card.channels, card.height, card.width)),
        OUTPUT_PIXELS: ("tensor(uint8)", (card.height, card.width, card.channels)),
    }
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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
