"""A model of NVIDIA Triton's Python backend that runs ONNX Runtime: model.py of a version in Triton's repository.

Parameters of config.pbtxt: `graph` (path of the ONNX file) and `threads` (of one session).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]  # in Triton's backend folder


class TritonPythonModel:
    """Implements Triton's interface, which also fixes the name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph."""
        parameters = json.loads(args["model_config"])["parameters"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"]["string_value"])
        graph = parameters["graph"]["string_value"]
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Computes the requests of one dynamic batch in one run."""
        sent = [triton.get_input_tensor_by_name(request, "latents").as_numpy() for request in requests]
        latents = sent[0] if len(sent) == 1 else np.concatenate(sent)
        (images,) = self._session.run(["images"], {"latents": latents})
        responses = []
        begin = 0
        for rows in map(len, sent):
            tensor = triton.Tensor("images", images[begin : begin + rows])
            responses.append(triton.InferenceResponse(output_tensors=[tensor]))
            begin += rows
        return responses
