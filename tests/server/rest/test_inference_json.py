"""Tests for server.rest.inference_json."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from server.errors import InvalidRequest
from server.rest import inference_json
from server.rest.inference_json import HEADER_LENGTH, read_inference, write_inference
from server.rest.reply import BYTES, JSON
from server.rest.sent import Sent

LATENTS = np.arange(8, dtype=np.float32).reshape(2, 4)
INPUT = {"name": "latents", "shape": [2, 4], "datatype": "FP32", "data": LATENTS.tolist()}
RAW_INPUT = {"name": "latents", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}


def sent(body: Any, raw: bytes = b"", headers: Mapping[str, str] | None = None) -> Sent:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    lengths = {HEADER_LENGTH: str(len(text))} if raw else {}
    return Sent({"model": "tiny"}, {**lengths, **(headers or {})}, text + raw)


@pytest.mark.parametrize("data", [LATENTS.tolist(), LATENTS.ravel().tolist(), [list(range(4)), list(range(4, 8))]])
def test_numbers_become_typed_contents(data: list[Any]) -> None:
    message, binary = read_inference(sent({"inputs": [{**INPUT, "data": data}]}))
    assert message.model_name == "tiny"
    assert list(message.inputs[0].contents.fp32_contents) == LATENTS.ravel().tolist()
    assert (list(message.inputs[0].shape), message.inputs[0].datatype) == ([2, 4], "FP32")
    assert binary == {"": False}


def test_raw_bytes_follow_the_json() -> None:
    message, _ = read_inference(sent({"inputs": [RAW_INPUT]}, LATENTS.tobytes()))
    assert list(message.raw_input_contents) == [LATENTS.tobytes()]
    assert not message.inputs[0].parameters  # the size has served


def test_ids_outputs_and_parameters_are_passed_on() -> None:
    body = {
        "id": "mine",
        "parameters": {"priority": 1, "sequence_start": False, "name": "x", "share": 0.5},
        "inputs": [INPUT],
        "outputs": [{"name": "pixels", "parameters": {"binary_data": True, "classification": 3}}, {"name": "images"}],
    }
    message, binary = read_inference(sent(body))
    assert message.id == "mine"
    assert message.parameters["priority"].int64_param == 1
    assert message.parameters["sequence_start"].WhichOneof("parameter_choice") == "bool_param"
    assert message.parameters["name"].string_param == "x"
    assert message.parameters["share"].double_param == 0.5
    assert [output.name for output in message.outputs] == ["pixels", "images"]
    assert list(message.outputs[0].parameters) == ["classification"]
    assert binary == {"": False, "pixels": True, "images": False}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": [[1, 2], "x"]}, "inputs[0].data holds what is no FP32"),
        ({"data": [True] * 8}, "inputs[0].data holds what is no FP32: true or false"),
        ({"datatype": "UINT8", "data": [-1] * 8}, "inputs[0].data holds what is no UINT8"),
        ({"datatype": "UINT8", "data": [10**30] * 8}, "inputs[0].data holds what is no UINT8"),
        ({"datatype": "FP16"}, "inputs[0].datatype is 'FP16': send FP32 or UINT8"),
        ({"data": None}, "inputs[0] has no data"),
        ({"shape": [2**80, 4]}, "inputs[0].shape holds a number that is out of range"),
        ({"shape": [2**63, 4]}, "inputs[0].shape holds a number that is out of range"),
        ({"shape": "2"}, "Expected `array`, got `str` - at `$.inputs[0].shape`"),
        ({"dat": []}, "unknown field `dat` - at `$.inputs[0]`"),
        ({"parameters": {"binary_data_size": 8}}, "and 0 bytes are left behind the JSON"),
        ({"parameters": {"binary_data_size": 0}}, "inputs[0] has data and binary_data_size: send one of them"),
        ({"parameters": {"binary_data_size": "8"}}, "inputs[0].parameters.binary_data_size is 8"),
        ({"parameters": {"x": 2**63}}, "inputs[0].parameters.x is out of range"),
    ],
)
def test_a_wrong_input_is_refused_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        read_inference(sent({"inputs": [{**INPUT, **change}]}))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not the JSON"),
        (b"{", "the body is not the JSON"),
        (b"\xff", "the body is not the JSON"),
        (b'{"inputs": [NaN]}', "the body is not the JSON"),
        ({"inputs": {}}, "Expected `array`, got `object` - at `$.inputs`"),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 9999, "the body is"),
        ({"inputs": [INPUT], "parameters": {"binary_data_output": 1}}, "parameters.binary_data_output is '1'"),
    ],
)
def test_a_wrong_body_is_refused(body: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        read_inference(sent(body))


@pytest.mark.parametrize("length", ["0", "-1", "x", "9999", "²", ""])
def test_a_wrong_length_of_the_json_is_refused(length: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^Inference-Header-Content-Length is "):
        read_inference(sent({"inputs": [INPUT]}, headers={HEADER_LENGTH: length}))


def test_bytes_that_belong_to_no_tensor_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="1 bytes follow the tensors"):
        read_inference(sent({"inputs": [RAW_INPUT]}, LATENTS.tobytes() + b"x"))


def test_json_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_json, "MAX_JSON_BYTES", 10)
    with pytest.raises(InvalidRequest, match="may have 10: send large tensors as raw bytes"):
        read_inference(sent({"inputs": [INPUT]}))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda item: st.lists(item, max_size=3)))
def test_any_json_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        read_inference(sent({"inputs": [{**INPUT, "data": [value]}]}))


def answer(rows: int = 2) -> bytes:
    message = pb.ModelInferResponse(model_name="tiny", model_version="1", id="mine")
    message.outputs.add(name="images", datatype="FP32", shape=[rows, 2])
    message.outputs.add(name="pixels", datatype="UINT8", shape=[rows, 2])
    message.raw_output_contents.append(np.arange(2 * rows, dtype="<f4").tobytes())
    message.raw_output_contents.append(bytes(range(2 * rows)))
    serialized: bytes = message.SerializeToString()
    return serialized


def test_an_answer_becomes_json() -> None:
    reply = write_inference(answer(), {"": False})
    assert (reply.media_type, list(reply.headers)) == (JSON, [])
    assert json.loads(b"".join(reply.parts)) == {
        "model_name": "tiny",
        "model_version": "1",
        "id": "mine",
        "outputs": [
            {"name": "images", "datatype": "FP32", "shape": [2, 2], "data": [0.0, 1.0, 2.0, 3.0]},
            {"name": "pixels", "datatype": "UINT8", "shape": [2, 2], "data": [0, 1, 2, 3]},
        ],
    }


def test_raw_outputs_follow_the_json() -> None:
    reply = write_inference(answer(), {"": False, "pixels": True})
    text, raw = reply.parts
    assert reply.media_type == BYTES
    assert dict(reply.headers) == {"Inference-Header-Content-Length": str(len(text))}
    assert raw == bytes(range(4))
    images, pixels = json.loads(bytes(text))["outputs"]
    assert images["data"] == [0.0, 1.0, 2.0, 3.0]
    assert pixels == {"name": "pixels", "datatype": "UINT8", "shape": [2, 2], "parameters": {"binary_data_size": 4}}


def test_an_answer_too_large_for_json_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_json, "MAX_TYPED_VALUES", 7)
    with pytest.raises(InvalidRequest, match='"binary_data": true'):
        write_inference(answer(), {"": False})
    assert write_inference(answer(), {"": True})
