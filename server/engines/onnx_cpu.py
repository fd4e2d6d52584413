"""Runs a bundle's graph with ONNX Runtime on the CPU; onnx_cuda.py is its counterpart for CUDA."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ganserve.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS, BundleError, Card, example_rows, read_verified_file
from ganserve.foreign import first_line
from server.config import Backend, Precision, ServerConfig
from server.engines.base import GraphFile
from server.engines.onnx_cut import cut_to
from server.engines.run_limit import RunLimit
from server.engines.sessions import open_session

_log = logging.getLogger(__name__)
_CPU_PROVIDER = "CPUExecutionProvider"
_ONNX_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}  # by a card's dtype
_ORT_ERRORS_ONLY = 3  # otherwise ONNX Runtime warns about every GPU that it does not find
_IMAGES: Final = frozenset({OUTPUT_IMAGES})
_MAX_CUT_BYTES: Final = (
    4 << 20
)  # the cut session holds the weights again, and pixels are a small part of the cost of a large model


class OnnxEngine:
    """Runs model.onnx, or model.fp16.onnx, with ONNX Runtime.

    Several threads may call `run` at once. Calls share one pool of `threads` threads, including the calling thread, so
    use one thread per engine if several calls run in parallel.

    The first run that requests images only starts a background thread, which builds a second session without pixels;
    that session holds the weights a second time. Until it is ready, or if it fails, the full graph runs.

    Args:
        graph: the verified file.
        card: the card of the bundle.
        threads: per call on the CPU.
        run_limit_s: the longest time of a run, in seconds.
        precision: of the file; fp16 is meant for CUDA (on the CPU, ONNX Runtime casts to float32 around most nodes).

    Raises:
        BundleError: the file is not a graph, or does not match the card.
    """

    backend: Backend = "onnx"
    device = "cpu"
    images_only: Future[bool]  # starts at the first run for images only; True if that run built a session

    def __init__(
        self,
        graph: GraphFile,
        card: Card,
        threads: int,
        *,
        run_limit_s: float = ServerConfig.compute_timeout_s,
        precision: Precision = "fp32",
    ) -> None:
        onnxruntime.set_default_logger_severity(_ORT_ERRORS_ONLY)
        self.threads = threads
        self.precision: Precision = precision
        self._limit = RunLimit(run_limit_s)
        try:
            options = session_options(threads)
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # its nodes, also in loops
            self._session = open_session(graph.content, options, [_CPU_PROVIDER])
        except Exception as error:
            raise BundleError(
                f"{graph.path}: not a graph that runs ({first_line(error)}); export the model again"
            ) from error
        self._input_name = card.input.name
        check_graph(self._session, card, graph.path)
        parts = self._session.get_provider_graph_assignment_info()
        self.has_loop = any(node.op_type == "Loop" for part in parts for node in part.get_nodes())
        self._path = graph.path
        self._bytes = len(graph.content)
        self._card = card
        self.images_only = Future()
        self._images_session: Any = None  # an onnxruntime.InferenceSession
        self._begun = threading.Lock()  # taken once, by the run that starts building the session for images

    def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        """See `Engine`."""
        session = self._session
        if outputs == _IMAGES:
            if self._images_session is not None:
                session = self._images_session
            elif self._begun.acquire(blocking=False):
                self._begin_images_session()
        names = sorted(outputs)
        values = self._limit.run(lambda options: session.run(names, {self._input_name: inputs}, options))
        return dict(zip(names, values, strict=True))

    def _begin_images_session(self) -> None:
        self.images_only.set_running_or_notify_cancel()
        try:
            threading.Thread(target=self._build_images_session, name=f"cut {self._card.name}", daemon=True).start()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            self._end_images_session(None, error)

    def _build_images_session(self) -> None:
        try:
            self._end_images_session(self._cut_session(), None)
        except Exception as error:  # noqa: BLE001 - after any error, the full graph still works
            self._end_images_session(None, error)

    def _end_images_session(self, session: Any, error: Exception | None) -> None:
        if error is not None:
            _log.warning(
                "%s: requests for images only compute pixels too, which is slower (%s)",
                self._path,
                first_line(error),
            )
        self._images_session = session
        self.images_only.set_result(session is not None)

    def _cut_session(self) -> Any:
        """Makes a warm session that computes only images; None if it would gain nothing or would not be safe.

        Raises:
            Exception: it cannot be made.
        """
        path, card = self._path, self._card
        if self._bytes > _MAX_CUT_BYTES:
            return None
        model = read_verified_file(path.parent, card, path.name)
        cut = cut_to(model, _IMAGES)
        if cut == model:
            return None
        del model
        session = open_session(cut, session_options(self.threads), [_CPU_PROVIDER])
        rows = {self._input_name: example_rows(card.input, 0, 1)}
        (expected,), (images,) = (
            self._limit.run(partial(each.run, [OUTPUT_IMAGES], rows)) for each in (self._session, session)
        )
        if expected.dtype != images.dtype or not np.array_equal(expected, images):
            raise BundleError(f"without pixels, {OUTPUT_IMAGES} differ")  # for example, because the graph draws noise
        return session


def session_options(threads: int) -> Any:
    """Options of a session (onnxruntime.SessionOptions) whose calls use `threads` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ORT_ERRORS_ONLY
    # Threads that spin during a call make it a quarter faster; after the call, they would waste the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def check_graph(session: Any, card: Card, path: Path) -> None:
    """Checks the names, types and shapes of an onnxruntime session against the card.

    Raises:
        BundleError: they do not match the card.
    """
    tensors = {card.input.name: (card.input.dtype, card.input.row_shape)} | card.outputs
    expected = {name: (_ONNX_TYPES[dtype], shape) for name, (dtype, shape) in tensors.items()}
    inputs = {node.name: node for node in session.get_inputs()}
    nodes = inputs | {node.name: node for node in session.get_outputs()}
    if set(inputs) != {card.input.name} or not nodes.keys() >= expected.keys():
        raise BundleError(
            f"{path}: maps {', '.join(sorted(inputs))} to {', '.join(sorted(nodes.keys() - inputs.keys()))}, not"
            f" {card.input.name} to {OUTPUT_IMAGES} and {OUTPUT_PIXELS}; export the model again"
        )
    for name, (kind, shape) in expected.items():
        node = nodes[name]
        # The warm-up checks symbolic sizes; a graph with a fixed number of rows cannot be batched.
        fits = len(node.shape) == 1 + len(shape) and all(
            not isinstance(actual, int) or actual == wanted
            for actual, wanted in zip(node.shape[1:], shape, strict=True)
        )
        if node.type != kind or not fits or isinstance(node.shape[0], int):
            raise BundleError(
                f"{path}: {name} is {node.type} {node.shape}, but the card says {kind} ['rows', "
                f"{', '.join(map(str, shape))}]; export the model again"
            )
