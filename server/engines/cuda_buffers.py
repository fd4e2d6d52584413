"""One batch size of a model on a CUDA device: an ONNX Runtime session with fixed input and output memory.

The code relies on this behaviour of ONNX Runtime:

- It copies an input from host memory to the device once, when the input is bound. So inputs are bound on the device and
  updated in place before each run.
- Updating an input copies it with the default stream of the current device and waits, and a run waits for its own
  stream, so no other synchronisation is needed. The engine's thread has no other device.
- It copies an output that is bound in host memory within the run, without the GIL. A CUDA graph replays kernels
  but not that copy. So with graphs, outputs are bound on the device and fetched afterwards, with the GIL held.
- It computes all outputs, whichever are bound. So with graphs, all are bound, and one graph serves every request.
- A captured graph reads and writes the memory that it was captured with.
- A session that captures graphs does so in its first run, after two runs without, unless the run says otherwise. A
  capture fails if anything allocates memory, which still happened after two runs in other projects.
- Its Python API cannot allocate page-locked memory with the built-in CUDA provider: `OrtValue` knows the devices "cpu"
  and "cuda", and its host-accessible allocators belong to plugin providers. So host memory is pageable.

docs/decisions/0011 names the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from server.engines.run_limit import RunLimit

_RUNS_TO_WARM_UP = 2  # the second grows the arena again: ONNX Runtime then knows the pattern of the memory
_RUNS_TO_CAPTURE = 2  # the second is a replay, so that a graph that cannot be replayed fails at load
_NO_GRAPH = "-1"


@dataclass(frozen=True)
class HostBuffers:
    """Host memory that the batch sizes of one engine share, because they run one at a time; each uses the first rows.

    Args:
        input_name: name of the graph's input.
        rows: (max_rows, *row_shape), the input; holds padded batches.
        outputs: (max_rows, *shape) of every output, by name.
    """

    input_name: str
    rows: NDArray[Any]
    outputs: Mapping[str, NDArray[Any]]


class BatchPlan:
    """Runs batches of up to `size` rows as batches of `size` rows.

    Args:
        session: onnxruntime.InferenceSession on CUDA; closed with the plan.
        size: rows of every run.
        buffers: shared with other plans that never run at the same time.
        device_index: index of the CUDA device.
        limit: the longest time of a run.
        cuda_graphs: whether the session captures CUDA graphs; then all runs must use one thread.
    """

    def __init__(
        self,
        session: Any,
        size: int,
        buffers: HostBuffers,
        device_index: int,
        limit: RunLimit,
        *,
        cuda_graphs: bool = False,
    ) -> None:
        self._session = session
        self._size = size
        self._limit = limit
        self._cuda_graphs = cuda_graphs
        self._use_graph = False  # until the warm-up
        self._rows = buffers.rows[:size]
        self._outputs = {name: array[:size] for name, array in buffers.outputs.items()}
        device = ("cuda", device_index)
        value = onnxruntime.OrtValue
        self._input = value.ortvalue_from_shape_and_type(self._rows.shape, self._rows.dtype, *device)
        self._bound = {
            name: value.ortvalue_from_shape_and_type(array.shape, array.dtype, *device)
            if cuda_graphs
            else value.ortvalue_from_numpy(array, "cpu")  # the same memory, no copy
            for name, array in self._outputs.items()
        }
        self._bindings: dict[frozenset[str], Any] = {}  # by the outputs that it computes into `_bound`
        names = sorted(self._outputs)
        fewest = len(names) if cuda_graphs else 1
        for wanted in chain.from_iterable(combinations(names, count) for count in range(fewest, len(names) + 1)):
            binding = session.io_binding()
            binding.bind_ortvalue_input(buffers.input_name, self._input)
            for name in wanted:
                binding.bind_ortvalue_output(name, self._bound[name])
            self._bindings[frozenset(wanted)] = binding

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """Computes the wanted outputs of 1 to `size` rows; the caller owns the returned arrays.

        The padding is whatever the buffer holds: rows do not influence each other.
        """
        rows = len(inputs)
        # ONNX Runtime compares only the number of elements, and would copy the bytes of another type unchanged.
        assert inputs.dtype == self._rows.dtype, inputs.dtype
        assert inputs.shape[1:] == self._rows.shape[1:], inputs.shape
        if rows < self._size:
            self._rows[:rows] = inputs
            inputs = self._rows
        self._input.update_inplace(np.ascontiguousarray(inputs))  # some versions copy memory in the order it has
        self._limit.run(partial(self._compute, outputs))
        if self._cuda_graphs:
            return {name: self._bound[name].numpy()[:rows] for name in outputs}
        return {name: self._outputs[name][:rows].copy() for name in outputs}

    def _compute(self, outputs: frozenset[str], options: Any) -> None:
        if self._cuda_graphs and not self._use_graph:
            options.add_run_config_entry("gpu_graph_id", _NO_GRAPH)
        binding = self._bindings[frozenset(self._outputs) if self._cuda_graphs else outputs]
        self._session.run_with_iobinding(binding, options)

    def warm_up(self, inputs: NDArray[Any]) -> None:
        """Runs `size` rows with every binding, which makes cuDNN's plans, grows the arena and captures the graph."""
        for outputs in self._bindings:
            for _ in range(_RUNS_TO_WARM_UP):
                self.run(inputs, outputs)
        if self._cuda_graphs:
            self._use_graph = True
            for _ in range(_RUNS_TO_CAPTURE):
                self.run(inputs, frozenset(self._outputs))

    def close(self) -> None:
        """Frees the memory and the session, after the bindings that refer to both."""
        self._bindings.clear()
        self._bound.clear()
        self._outputs.clear()
        self._input = self._session = None
