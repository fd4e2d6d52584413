"""PyTriton, with one ONNX Runtime session in every inference callable.

    python pytriton_server.py GRAPH MODEL INSTANCES THREADS MAX_BATCH_ROWS GRPC_PORT HTTP_PORT METRICS_PORT

PyTriton always opens the HTTP and metrics ports too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from pytriton.decorators import batch  # type: ignore[import-not-found]  # a rival's own environment
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor  # type: ignore[import-not-found]
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]


def new_session(graph: str, threads: int) -> Any:
    """A session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def callable_of(session: Any) -> Callable[..., Any]:
    """The callable that PyTriton calls with a dynamic batch."""

    def infer(latents: Any) -> dict[str, Any]:
        return {"images": session.run(["images"], {"latents": latents})[0]}

    wrapped: Callable[..., Any] = batch(infer)
    return wrapped


def main() -> None:
    """Serves until it is terminated."""
    graph, model = sys.argv[1:3]
    instances, threads, max_batch_rows, grpc_port, http_port, metrics_port = map(int, sys.argv[3:])
    sessions = [new_session(graph, threads) for _ in range(instances)]
    (latent_input,), (image_output,) = sessions[0].get_inputs(), sessions[0].get_outputs()
    config = TritonConfig(
        grpc_address="127.0.0.1",
        grpc_port=grpc_port,
        http_address="127.0.0.1",
        http_port=http_port,
        metrics_port=metrics_port,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=model,
            infer_func=[callable_of(session) for session in sessions],
            inputs=[Tensor(name="latents", dtype=np.float32, shape=tuple(latent_input.shape[1:]))],
            outputs=[Tensor(name="images", dtype=np.float32, shape=tuple(image_output.shape[1:]))],
            config=ModelConfig(max_batch_size=max_batch_rows, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    main()
