"""Mosec over HTTP: raw float32 latents in, raw float32 images out.

Mosec parses the command line itself, so these settings come from the environment: PEER_GRAPH, PEER_INSTANCES,
PEER_THREADS, PEER_MAX_BATCH (in requests: Mosec does not count rows).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
from mosec import Server, Worker  # type: ignore[import-not-found]  # a rival's own environment

_SHORTEST_WAIT_MS = 1
_TIMEOUT_S = 30


class Generator(Worker):  # type: ignore[misc]
    """Implements Mosec's interface."""

    def __init__(self) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
        graph = os.environ["PEER_GRAPH"]
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._latent_dim = self._session.get_inputs()[0].shape[1]

    def deserialize(self, data: bytes) -> Any:
        """The body of a request -> latents (N, latent_dim)."""
        return np.frombuffer(data, np.float32).reshape(-1, self._latent_dim)

    def forward(self, data: list[Any]) -> list[Any]:
        """Computes the requests of one batch in one run."""
        (images,) = self._session.run(["images"], {"latents": np.concatenate(data)})
        return list(np.split(images, np.cumsum([len(latents) for latents in data])[:-1]))

    def serialize(self, data: Any) -> bytes:
        """Images -> the body of an answer."""
        answer: bytes = data.tobytes()
        return answer


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Generator,
        num=int(os.environ["PEER_INSTANCES"]),
        max_batch_size=int(os.environ["PEER_MAX_BATCH"]),
        max_wait_time=_SHORTEST_WAIT_MS,
        timeout=_TIMEOUT_S,
    )
    server.run()
