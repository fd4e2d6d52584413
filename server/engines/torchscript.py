"""Runs a bundle's graph with PyTorch, which is imported when an engine is made. Knows no other runtime, and no card."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ganserve.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS, BundleError
from ganserve.foreign import first_line
from server.config import Backend, Device, Precision
from server.errors import StartupError


class TorchScriptEngine:
    """Runs model.pt, or model.bf16.pt, which hold code, with PyTorch.

    `run` may be called by several threads at once. PyTorch's number of threads belongs to the thread that calls, and
    each calling thread has OpenMP threads of its own: n calls side by side take n times `threads` cores.

    Args:
        path: of the verified file.
        device: "auto" takes CUDA if it works.
        threads: that a call uses on the CPU.
        precision: of the file; bf16 is meant for CPUs that compute in it.

    Raises:
        BundleError: the file is no TorchScript.
        StartupError: PyTorch is not installed, or CUDA was asked for and does not work.
    """

    backend: Backend = "torchscript"

    def __init__(self, path: Path, device: Device, threads: int, *, precision: Precision = "fp32") -> None:
        # OpenMP's threads spin for milliseconds while they wait for each other, unless told before it is loaded; where
        # the event loop or another call wants the same core, that makes a batch many times slower.
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
                warnings.filterwarnings("ignore", message=r"`torch\.jit")  # deprecated, which is not the user's choice
                # Frozen: weights become constants, so that no call looks them up.
                self._module = self._jit.freeze(self._jit.load(str(path), map_location=self.device).eval())
        except RuntimeError as error:
            raise BundleError(f"{path}: not TorchScript ({first_line(error)}); export the model again") from error

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """See `Engine`."""
        torch = self._torch
        if torch.get_num_threads() != self.threads:  # of this calling thread
            torch.set_num_threads(self.threads)
        # The optimising executor would profile the first calls and compile for the shapes it saw.
        with torch.inference_mode(), self._jit.optimized_execution(False):
            # What was sent is a read-only view of the request, which tensors cannot be.
            images, pixels = self._module(torch.tensor(inputs, device=self.device))
            results = {OUTPUT_IMAGES: images, OUTPUT_PIXELS: pixels}
            # A network that keeps channels last gives images in that order, too.
            return {name: results[name].cpu().contiguous().numpy() for name in outputs}
