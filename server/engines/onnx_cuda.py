"""Runs a bundle's ONNX graph on one CUDA device, with ONNX Runtime's CUDA provider.

ONNX Runtime keeps one cuDNN plan per convolution, that of the last shape, so batches of varying sizes in one session
would make new plans all the time. Therefore batches are padded to a few sizes, and each size has its own session.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ganserve.bundle import BundleError, Card, example_rows
from ganserve.foreign import first_line
from server.config import Backend, Precision, ServerConfig
from server.engines.base import GraphFile, cuda_devices
from server.engines.cuda_buffers import BatchPlan, HostBuffers
from server.engines.layouts import padded_rows
from server.engines.onnx_cpu import check_graph
from server.engines.run_limit import RunLimit
from server.engines.sessions import open_session
from server.errors import StartupError

_log = logging.getLogger(__name__)
_CUDA_PROVIDER = "CUDAExecutionProvider"
_CPU_PROVIDER = "CPUExecutionProvider"
_ORT_ERRORS_ONLY = 3


class CudaOnnxEngine:
    """Runs model.onnx, or model.fp16.onnx, on one CUDA device; implements `server.engines.base.Engine`.

    All work runs on the engine's own thread, because the CUDA provider keeps cuBLAS and cuDNN handles and captured
    graphs per thread. Any thread may call `run`.

    Args:
        graph: the verified file.
        card: the card of the bundle.
        device_index: index of the CUDA device.
        batch_rows: the batch sizes to compute, in any order.
        precision: of the file.
        cuda_graphs: whether to replay each size as a CUDA graph, which saves the kernel launches of small batches.
            While a graph is captured, at load, CUDA lets no other thread allocate memory: serve no other model then.
        run_limit_s: the longest time of a run, in seconds.

    Raises:
        BundleError: the file is not a graph, does not match the card, or has nodes that CUDA cannot compute.
        StartupError: ONNX Runtime cannot use this device.
        Exception: a CUDA error that ONNX Runtime raises, such as out of memory; `run` raises these too.
    """

    backend: Backend = "onnx"
    threads = 1
    has_loop = True  # not known

    def __init__(
        self,
        graph: GraphFile,
        card: Card,
        *,
        batch_rows: Sequence[int],
        device_index: int = 0,
        precision: Precision = "fp32",
        cuda_graphs: bool = False,
        run_limit_s: float = ServerConfig.compute_timeout_s,
    ) -> None:
        self.sizes = tuple(sorted(set(batch_rows)))
        if not self.sizes or self.sizes[0] < 1:
            raise ValueError(f"batch_rows = {batch_rows!r}: give one or more sizes of at least 1 row")
        self.device = f"cuda:{device_index}"
        self.precision: Precision = precision
        self.cuda_graphs = cuda_graphs  # set to False at the first size whose graph cannot be captured
        self._device_index = device_index
        self._provider_options = provider_options(device_index, precision)
        self._path = graph.path
        self._content = graph.content  # until the sessions are made
        self._plans: dict[int, BatchPlan] = {}
        self._limit = RunLimit(run_limit_s)
        self._require_cuda()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=self.device)
        try:
            self._executor.submit(self._load, card).result()
        except BaseException:
            self.close()
            raise
        finally:
            self._content = b""

    def padded_rows(self, rows: int) -> int:
        """The number of rows computed for a batch of `rows` rows.

        Raises:
            ValueError: rows is above the largest size.
        """
        return padded_rows(rows, self.sizes)

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """See `Engine`.

        Raises:
            ValueError: there are more rows than the largest size.
            RuntimeError: the engine is closed, or CUDA fails.
        """
        return self._executor.submit(self._run, inputs, outputs).result()

    def close(self) -> None:
        """Frees the sessions and their memory after the run in progress; later runs fail. Safe to call twice."""
        with contextlib.suppress(RuntimeError):  # closed already
            self._executor.submit(self._unload).result()
        self._executor.shutdown()

    def _run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        plan = self._plans.get(self.padded_rows(len(inputs)))
        if plan is None:
            raise RuntimeError(f"the engine on {self.device} is closed")
        return plan.run(inputs, outputs)

    def _unload(self) -> None:
        while self._plans:
            self._plans.popitem()[1].close()

    def _require_cuda(self) -> None:
        if cuda_devices() <= self._device_index:
            raise self._unusable("the NVIDIA driver reports no such device")
        if _CUDA_PROVIDER not in onnxruntime.get_available_providers():
            raise self._unusable("the installed onnxruntime is not onnxruntime-gpu")
        onnxruntime.set_default_logger_severity(_ORT_ERRORS_ONLY)
        with contextlib.redirect_stdout(sys.stderr):  # it prints the libraries that it cannot find
            onnxruntime.preload_dlls()  # finds CUDA libraries that are installed as Python packages
        try:
            onnxruntime.OrtValue.ortvalue_from_shape_and_type([1], np.uint8, "cuda", self._device_index)
        except Exception as error:
            raise self._unusable(first_line(error)) from error

    def _unusable(self, reason: str) -> StartupError:
        return StartupError(
            f"--device cuda: ONNX Runtime cannot use {self.device} here ({reason}); install onnxruntime-gpu with its"
            " CUDA libraries and an NVIDIA driver, or use --device cpu"
        )

    def _load(self, card: Card) -> None:
        symbol = self._check_file(card)
        most = self.sizes[-1]
        buffers = HostBuffers(
            input_name=card.input.name,
            rows=example_rows(card.input, 0, most),
            outputs={name: np.empty((most, *shape), dtype) for name, (dtype, shape) in card.outputs.items()},
        )
        for size in self.sizes:
            self._plans[size] = self._warm_plan(size, symbol, buffers)

    def _check_file(self, card: Card) -> str | None:
        """Checks the graph on the CPU, unoptimised; returns the name of its symbolic number of rows, if it has one."""
        options = _session_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = open_session(self._content, options, [_CPU_PROVIDER])
        except Exception as error:
            raise BundleError(
                f"{self._path}: not a graph that runs ({first_line(error)}); export the model again"
            ) from error
        check_graph(session, card, self._path)
        rows = session.get_inputs()[0].shape[0]
        return rows if isinstance(rows, str) else None

    def _warm_plan(self, size: int, symbol: str | None, buffers: HostBuffers) -> BatchPlan:
        if self.cuda_graphs:
            try:
                return self._make_plan(size, symbol, buffers, cuda_graphs=True)
            except (BundleError, StartupError):
                raise
            except Exception as error:  # noqa: BLE001 - after any error, try without graphs
                self.cuda_graphs = False
                _log.warning(
                    "%s: batches of %d rows cannot be captured as a CUDA graph (%s); larger ones run without, too",
                    self._path,
                    size,
                    first_line(error),
                )
        return self._make_plan(size, symbol, buffers, cuda_graphs=False)

    def _make_plan(self, size: int, symbol: str | None, buffers: HostBuffers, *, cuda_graphs: bool) -> BatchPlan:
        provider = self._provider_options | ({"enable_cuda_graph": "1"} if cuda_graphs else {})
        try:
            # The session is not created if a node would run on the CPU.
            session = self._session(size, symbol, "session.disable_cpu_ep_fallback", provider)
        except Exception as error:
            misplaced = self._placement_error(size, symbol)
            if misplaced is None:
                raise
            raise misplaced from error
        plan = BatchPlan(session, size, buffers, self._device_index, self._limit, cuda_graphs=cuda_graphs)
        plan.warm_up(buffers.rows[:size])
        return plan

    def _session(self, size: int, symbol: str | None, switch: str, provider: dict[str, str]) -> Any:
        options = _session_options()
        options.add_session_config_entry(switch, "1")
        if symbol is not None:  # a known number of rows lets ONNX Runtime fold the shape arithmetic
            options.add_free_dimension_override_by_name(symbol, size)
        # If the CPU provider is named here, it is not a fallback that can be disabled. Python's own fallback would try
        # again without CUDA, and print.
        return open_session(self._content, options, [(_CUDA_PROVIDER, provider)], enable_fallback=0)

    def _placement_error(self, size: int, symbol: str | None) -> Exception | None:
        """The error of a session that failed because some nodes cannot run on CUDA; None for another reason."""
        try:
            session = self._session(size, symbol, "session.record_ep_graph_assignment_info", self._provider_options)
            if _CUDA_PROVIDER not in session.get_providers():
                return self._unusable("its CUDA provider does not start")
            parts = session.get_provider_graph_assignment_info()
        except Exception:  # noqa: BLE001 - the caller raises its own error
            _log.debug("cannot tell which nodes CUDA computes", exc_info=True)
            return None
        nodes = Counter(node.op_type for part in parts if part.ep_name != _CUDA_PROVIDER for node in part.get_nodes())
        if not nodes:
            return None
        counts = ", ".join(f"{nodes[op]} {op}" for op in sorted(nodes))
        return BundleError(
            f"{self._path}: CUDA cannot compute some of its nodes ({counts}), and computing them on the CPU would slow"
            " down the rest; export other layers, or use --device cpu"
        )


def provider_options(device_index: int, precision: Precision) -> dict[str, str]:
    """Options of ONNX Runtime's CUDA provider, without graphs."""
    return {
        "device_id": str(device_index),
        # DEFAULT is cuDNN's slow fallback mode; EXHAUSTIVE ranks more of its heuristics at every new shape.
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        # TF32 rounds the factors of float32 to 10 bits, and the export has verified float32. For convolutions, "0"
        # excludes tensor cores in every type, and float16 is fast only on those.
        "use_tf32": "1" if precision == "fp16" else "0",
        "prefer_nhwc": "0",
    }


def cuda_device_indices(count: int, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """The CUDA devices to use, in the given order.

    Args:
        count: number of devices in this machine.
        wanted: indices; None for all.

    Raises:
        StartupError: the machine has no CUDA device, or lacks one of these.
    """
    if count < 1:
        raise StartupError("--device cuda: the NVIDIA driver reports no device; install a driver, or use --device cpu")
    if wanted is None:
        return tuple(range(count))
    unknown = sorted({index for index in wanted if not 0 <= index < count})
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        reason = f"there is no {unknown[0]}" if unknown else "name each once, and at least one"
        raise StartupError(
            f"--cuda-devices {','.join(map(str, wanted))}: {reason}; this machine has {count}, numbered from 0"
        )
    return tuple(wanted)


def _session_options() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # no node computes on the CPU
    options.inter_op_num_threads = 1
    options.log_severity_level = _ORT_ERRORS_ONLY
    return options
