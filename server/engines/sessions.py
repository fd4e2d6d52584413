"""Opens ONNX Runtime sessions on graphs in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import onnxruntime

_FOLDER_OF_WEIGHTS: Final = "session.model_external_initializers_file_folder_path"


def open_session(content: bytes, options: Any, providers: Sequence[Any], **settings: Any) -> Any:
    """Opens a session (onnxruntime.InferenceSession) on a graph that holds its weights; does not keep `content`.

    Args:
        content: the bytes of the graph.
        options: onnxruntime.SessionOptions.
        providers: as for InferenceSession.
        settings: further arguments of InferenceSession.

    Raises:
        Exception: the graph does not run, or refers to weights in another file, which would be unverified.
    """
    # By default, a graph in memory finds other files in the working directory. No file is below a device.
    options.add_session_config_entry(_FOLDER_OF_WEIGHTS, os.devnull)
    session = onnxruntime.InferenceSession(content, options, providers=providers, **settings)
    # Otherwise it keeps the bytes, as large as the weights, to try again with other providers.
    session.disable_fallback()
    session._model_bytes = None
    return session
