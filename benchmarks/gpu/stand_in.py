"""The CUDA engine without CUDA, for dry runs: `python -m benchmarks.gpu.stand_in FLAGS` is a server that uses it.

ONNX Runtime computes on the CPU; everything else, such as the choice of sizes and the bindings, is the engine's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

_MODULES = ("onnx_cuda", "cuda_buffers", "sessions", "run_limit")


@contextmanager
def cuda_stand_in() -> Iterator[None]:
    """While entered, this process has one CUDA device, as far as the server's engines can tell."""
    from tests.server.engines.fake_onnxruntime import OnnxRuntimeOnCpu

    with ExitStack() as stack:
        for module in _MODULES:
            stack.enter_context(mock.patch(f"server.engines.{module}.onnxruntime", OnnxRuntimeOnCpu))
        for module in ("onnx_cuda", "loading"):
            stack.enter_context(mock.patch(f"server.engines.{module}.cuda_devices", return_value=1))
        yield


if __name__ == "__main__":
    from server.__main__ import main

    with cuda_stand_in():
        main()
