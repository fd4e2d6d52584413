"""An MLServer runtime for ONNX Runtime.

Extra parameters of model-settings.json: `graph` (path of the ONNX file) and `threads`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel  # type: ignore[import-not-found]  # a rival's own environment
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceResponse  # type: ignore[import-not-found]


class Generator(MLModel):  # type: ignore[misc]
    """Implements MLServer's interface; MLServer merges requests before `predict`."""

    async def load(self) -> bool:
        """Loads the graph."""
        extra = self.settings.parameters.extra
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = extra["threads"]
        self._session = onnxruntime.InferenceSession(extra["graph"], options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: Any) -> Any:
        """Computes one batch."""
        latents = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        (images,) = self._session.run(["images"], {"latents": latents})
        outputs = [NumpyCodec.encode_output("images", images)]
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=outputs)
