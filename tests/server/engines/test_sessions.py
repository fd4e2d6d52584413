from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnxruntime
import pytest

from server.engines.sessions import open_session
from tests.server.tiny_bundles import tiny_graph

CPU = ["CPUExecutionProvider"]


def move_weights(model: onnx.ModelProto, location: str) -> bytes:
    """Makes the graph refer to its weights in another file; returns the bytes of that file."""
    weights = model.graph.initializer[0]
    content: bytes = weights.raw_data
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", location
    return content


def quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def test_the_session_does_not_keep_the_bytes_of_the_graph() -> None:
    session = open_session(tiny_graph().SerializeToString(), quiet(), CPU)
    assert [output.name for output in session.get_outputs()] == ["images", "pixels"]
    assert not [name for name, value in vars(session).items() if isinstance(value, bytes)]


@pytest.mark.parametrize("where", ["weights.bin", "folder/../weights.bin", "/weights.bin", "../weights.bin"])
def test_weights_in_another_file_are_refused_wherever_the_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    model = tiny_graph()
    location = where if not where.startswith("/") else str(tmp_path) + where
    content = move_weights(model, location)
    working = tmp_path / "working"
    (working / "folder").mkdir(parents=True)
    for folder in (tmp_path, working):
        (folder / "weights.bin").write_bytes(content)
    monkeypatch.chdir(working)
    with pytest.raises(Exception, match="External data path"):
        open_session(model.SerializeToString(), quiet(), CPU)
    # Without the option, the file in the working directory would be read.
    if os.path.normpath(where) == "weights.bin":
        onnxruntime.InferenceSession(model.SerializeToString(), quiet(), providers=CPU)
