"""Stand-ins for onnxruntime on machines without CUDA: a fake that records calls, and the real one on the CPU.

`FakeOnnxRuntime` keeps device memory separate from host memory and imitates the behaviour of the CUDA provider that
cuda_buffers.py describes. `OnnxRuntimeOnCpu` checks that the real API accepts the calls.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ganserve.bundle import Card

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}


def fake_outputs(rows: NDArray[Any], card: Card) -> dict[str, NDArray[Any]]:
    """What a fake session computes: every value of an image is the sum of its row, as the output's dtype."""
    sums = rows.reshape(len(rows), -1).sum(axis=1)
    return {
        name: np.broadcast_to(sums.reshape(-1, 1, 1, 1), (len(rows), *shape)).astype(dtype)
        for name, (dtype, shape) in card.outputs.items()
    }


class FakeOrtValue:
    """On a device, its own memory; on the CPU, the memory of the array it was made from."""

    def __init__(self, array: NDArray[Any], device: tuple[str, int]) -> None:
        self.array = array
        self.device = device

    @classmethod
    def ortvalue_from_numpy(cls, array: NDArray[Any], device_type: str = "cpu", device_id: int = 0) -> FakeOrtValue:
        return cls(array if device_type == "cpu" else array.copy(), (device_type, device_id))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls, shape: Sequence[int], element_type: Any, device_type: str = "cpu", device_id: int = 0
    ) -> FakeOrtValue:
        return cls(np.full(shape, 99, element_type), (device_type, device_id))

    def update_inplace(self, array: NDArray[Any]) -> None:
        if array.size != self.array.size:
            raise RuntimeError("The input size of numpy arrays does not match the size of the OrtValue.")
        # In the order that the memory has, as version 1.13 does.
        self.array[...] = array.ravel(order="K").reshape(self.array.shape)

    def numpy(self) -> NDArray[Any]:
        return self.array.copy()


class FakeOptions:
    """Options of a session or a run."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.dimensions: dict[str, int] = {}
        self.add_session_config_entry = self.add_run_config_entry = self.entries.__setitem__
        self.add_free_dimension_override_by_name = self.dimensions.__setitem__
        self.log_severity_level = 0
        self.terminate = False


class FakeBinding:
    def __init__(self, device: tuple[str, int]) -> None:
        self._device = device
        self.inputs: dict[str, FakeOrtValue] = {}
        self.outputs: dict[str, FakeOrtValue] = {}

    def bind_ortvalue_input(self, name: str, value: FakeOrtValue) -> None:
        # Memory elsewhere is copied once, now.
        self.inputs[name] = value if value.device == self._device else FakeOrtValue(value.array.copy(), self._device)

    def bind_ortvalue_output(self, name: str, value: FakeOrtValue) -> None:
        self.outputs[name] = value


class FakeSession:
    def __init__(self, runtime: FakeOnnxRuntime, options: FakeOptions, providers: Sequence[Any]) -> None:
        self.runtime = runtime
        self.options = options
        (provider,) = providers
        self.provider, self.provider_options = provider if isinstance(provider, tuple) else (provider, {})
        self.size = options.dimensions.get("rows")
        self.device = ("cuda", int(self.provider_options.get("device_id", 0)))
        self.runs: list[frozenset[str]] = []  # computed batches, by the names of their outputs
        self.replays = 0
        self._graph: FakeBinding | None = None

    @property
    def captures(self) -> bool:
        return "enable_cuda_graph" in self.provider_options

    def get_providers(self) -> list[str]:
        return [self.provider, CPU] if self.runtime.cuda_starts else [CPU]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        def part(provider: str, op_types: Sequence[str]) -> Any:
            return SimpleNamespace(ep_name=provider, get_nodes=lambda: [SimpleNamespace(op_type=op) for op in op_types])

        assert self.options.entries["session.record_ep_graph_assignment_info"] == "1"
        return [part(CUDA, ["Gemm"]), part(CPU, self.runtime.nodes_on_cpu)]

    def get_inputs(self) -> list[Any]:
        row_input = self.runtime.card.input
        shape = [self.runtime.row_symbol, *row_input.row_shape]
        return [SimpleNamespace(name=row_input.name, type=_TYPES[row_input.dtype], shape=shape)]

    def get_outputs(self) -> list[Any]:
        forms = self.runtime.card.outputs
        return [
            SimpleNamespace(name=name, type=_TYPES[str(dtype)], shape=[self.runtime.row_symbol, *shape])
            for name, (dtype, shape) in forms.items()
        ]

    def disable_fallback(self) -> None:
        """Never falls back."""

    def io_binding(self) -> FakeBinding:
        return FakeBinding(self.device)

    def run_with_iobinding(self, binding: FakeBinding, options: FakeOptions | None = None) -> None:
        if self.runtime.run_error is not None:
            raise RuntimeError(self.runtime.run_error)
        graph = self.captures and (options is None or options.entries.get("gpu_graph_id") != "-1")
        if graph and self.size in self.runtime.uncapturable_sizes:
            raise RuntimeError("Error in execution: CUDA failure 900: operation not permitted\nwhen capturing")
        if self._graph is None or not graph:
            self.runs.append(frozenset(binding.outputs))
            self._compute(binding, on_device_only=False)
            self._graph = binding if graph else self._graph
        else:  # whatever is bound now
            self.replays += 1
            self._compute(self._graph, on_device_only=True)

    def _compute(self, binding: FakeBinding, *, on_device_only: bool) -> None:
        (value,) = binding.inputs.values()
        assert self.size in {None, len(value.array)}
        self.runtime.computed.append(value.array.copy())
        results = fake_outputs(value.array, self.runtime.card)
        for name, output in binding.outputs.items():
            if output.device == self.device or not on_device_only:  # a graph does not copy to the host
                output.array[...] = results[name]


class FakeOnnxRuntime:
    """Replaces the module.

    Args:
        card: card of its only model.
    """

    SessionOptions = FakeOptions
    RunOptions = FakeOptions
    OrtValue = FakeOrtValue
    GraphOptimizationLevel = SimpleNamespace(ORT_DISABLE_ALL=0)

    def __init__(self, card: Card) -> None:
        self.card = card
        self.row_symbol: str | None = "rows"
        self.providers = [CUDA, CPU]
        self.cuda_starts = True
        self.nodes_on_cpu: list[str] = []
        self.uncapturable_sizes: set[int | None] = set()
        self.too_large: int | None = None  # a size that does not fit into memory
        self.run_error: str | None = None
        self.sessions: list[FakeSession] = []  # all CUDA sessions
        self.computed: list[NDArray[Any]] = []  # every computed batch

    def get_available_providers(self) -> list[str]:
        return self.providers

    def preload_dlls(self) -> None:
        sys.stdout.write("preloading\n")

    def set_default_logger_severity(self, severity: int) -> None:
        assert severity == 3

    def InferenceSession(  # noqa: N802 - it stands for a class
        self, content: bytes, options: FakeOptions, providers: Sequence[Any], enable_fallback: int = 1
    ) -> FakeSession:
        session = FakeSession(self, options, providers)
        if session.provider == CUDA:
            assert not enable_fallback
            strict = options.entries.get("session.disable_cpu_ep_fallback") == "1"
            if strict and (self.nodes_on_cpu or not self.cuda_starts):
                raise RuntimeError("This session contains graph nodes that are assigned to the default CPU EP")
            if session.size is not None and session.size == self.too_large:
                raise RuntimeError("CUDA failure 2: out of memory")
            self.sessions.append(session)
        return session


class OnnxRuntimeOnCpu:
    """The real onnxruntime, with "cpu" in place of "cuda" everywhere."""

    RunOptions = onnxruntime.RunOptions
    SessionOptions = onnxruntime.SessionOptions
    GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel
    set_default_logger_severity = staticmethod(onnxruntime.set_default_logger_severity)

    class OrtValue(onnxruntime.OrtValue):  # type: ignore[misc]
        @classmethod
        def ortvalue_from_shape_and_type(cls, shape: Sequence[int], element_type: Any, device: str, index: int) -> Any:
            assert (device, index) == ("cuda", 0)
            return super().ortvalue_from_shape_and_type(shape, element_type)

        def numpy(self) -> NDArray[Any]:
            return super().numpy().copy()  # type: ignore[no-any-return]  # a copy, as on a device

    @staticmethod
    def get_available_providers() -> list[str]:
        return [CUDA, CPU]

    @staticmethod
    def preload_dlls() -> None:
        """Loads nothing."""

    @staticmethod
    def InferenceSession(content: bytes, options: Any, providers: Sequence[Any], **kwargs: Any) -> Any:  # noqa: N802
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
        return onnxruntime.InferenceSession(content, options, providers=[CPU], **kwargs)
