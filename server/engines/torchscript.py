"""Runs a bundle's graph with PyTorch, which is imported when an engine is created."""

from __future__ import annotations

import io
import os
import warnings
from typing import Any

from numpy.typing import NDArray

from ganserve.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS, BundleError
from ganserve.foreign import first_line
from server.config import Backend, Device, Precision
from server.engines.base import GraphFile
from server.errors import StartupError


class TorchScriptEngine:
    """Runs model.pt or model.bf16.pt, which contain code, with PyTorch.

    Several threads may call `run` at once. PyTorch's number of threads is a setting of the calling thread, and each
    calling thread has its own OpenMP threads: n parallel calls use n times `threads` cores.

    Args:
        graph: the verified file.
        device: "auto" uses CUDA if it is available.
        threads: per call on the CPU.
        precision: of the file; bf16 is meant for CPUs that compute in bfloat16.

    Raises:
        BundleError: the file is not TorchScript.
        StartupError: PyTorch is not installed, or CUDA was requested and is not available.
    """

    backend: Backend = "torchscript"
    has_loop = True  # not known

    def __init__(self, graph: GraphFile, device: Device, threads: int, *, precision: Precision = "fp32") -> None:
        # By default, OpenMP threads spin for milliseconds while they wait. If the event loop or another call needs the
        # same core, that makes a batch many times slower. OpenMP reads the setting when it is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            import torch
        except ImportError as error:
            raise StartupError("--backend torchscript: PyTorch is not installed; install it, or use onnx") from error
        works = torch.cuda.is_available()
        if device == "cuda" and not works:
            raise StartupError("--device cuda: PyTorch cannot use CUDA here; install its driver, or use --device cpu")
        self.device = "cuda:0" if works and device != "cpu" else "cpu"
        self.threads = threads
        self.precision: Precision = precision
        self._torch = torch
        self._jit: Any = torch.jit  # untyped
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=r"`torch\.jit")  # torch.jit is deprecated
                # Freezing makes the weights constants, so that calls do not look them up.
                loaded = self._jit.load(io.BytesIO(graph.content), map_location=self.device)
                self._module = self._jit.freeze(loaded.eval())
        except RuntimeError as error:
            raise BundleError(f"{graph.path}: not TorchScript ({first_line(error)}); export the model again") from error

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """See `Engine`."""
        torch = self._torch
        if torch.get_num_threads() != self.threads:  # of this calling thread
            torch.set_num_threads(self.threads)
        # The optimising executor would profile the first calls and compile for their shapes.
        with torch.inference_mode(), self._jit.optimized_execution(False):
            # Copies: inputs are read-only views of the request, and tensors cannot be read-only.
            images, pixels = self._module(torch.tensor(inputs, device=self.device))
            results = {OUTPUT_IMAGES: images, OUTPUT_PIXELS: pixels}
            # A channels-last network returns images in that memory order.
            return {name: results[name].cpu().contiguous().numpy() for name in outputs}
