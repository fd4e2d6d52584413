"""ModelInfer of the Open Inference Protocol as JSON: converts the body of a request, and the answer.

Values are checked where they are for gRPC. With the binary extension, the JSON text comes first, its length is in the
header `Inference-Header-Content-Length`, and the raw tensors follow in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from server.errors import InvalidRequest
from server.limits import quote
from server.open_inference.validation import MAX_TYPED_VALUES
from server.rest.reply import BYTES, JSON, Reply
from server.rest.sent import Sent

HEADER_LENGTH: Final = "inference-header-content-length"
MAX_JSON_BYTES: Final = 16 << 20  # 1,048,576 values of 16 characters; parsed, JSON takes some twenty times its size
_MAX_AXES: Final = 5  # to flatten
_BINARY: Final = "binary_data"
_BINARY_SIZE: Final = "binary_data_size"
_BINARY_OUTPUT: Final = "binary_data_output"
_FIELDS: Final = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
_DTYPES: Final[Mapping[str, Any]] = {"FP32": np.dtype("<f4"), "UINT8": np.dtype("u1")}  # of the outputs of models
_Parameters = dict[str, bool | int | float | str]


class _Input(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    parameters: _Parameters = {}
    data: list[Any] | None = None


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: _Parameters = {}


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Input]
    id: str = ""
    parameters: _Parameters = {}
    outputs: list[_Output] = []


SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "maxLength": 256},
        "parameters": {"type": "object"},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {
                    "name": {"type": "string", "enum": ["latents", "input_pixels"]},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                    "datatype": {"type": "string", "enum": ["FP32", "UINT8"]},
                    "parameters": {"type": "object"},
                    "data": {"type": "array", "description": "Numbers, flat or nested in the order of the shape."},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "enum": ["images", "pixels"]},
                    "parameters": {"type": "object", "properties": {_BINARY: {"type": "boolean"}}},
                },
            },
        },
    },
}
"""Of the JSON of a request."""


def read_inference(sent: Sent) -> tuple[pb.ModelInferRequest, dict[str, bool]]:
    """Returns the request as a message; slow if it is large.

    Returns:
        The message, and which outputs are wanted as raw bytes; the empty name stands for all that are not named.

    Raises:
        InvalidRequest: it is not JSON of this form, or its raw tensors have other sizes than it says.
    """
    text, raw = _split(sent)
    request = decode(text, _Request)
    message = pb.ModelInferRequest(
        model_name=sent.text("model"), model_version=str(sent.values.get("version", "")), id=request.id
    )
    binary = {"": _boolean("parameters", request.parameters, _BINARY_OUTPUT, default=False)}
    _add_parameters(message.parameters, "parameters", request.parameters)
    for index, tensor in enumerate(request.inputs):
        raw = _add_input(message, f"inputs[{index}]", tensor, raw)
    for index, output in enumerate(request.outputs):
        where = f"outputs[{index}].parameters"
        binary[output.name] = _boolean(where, output.parameters, _BINARY, default=binary[""])
        _add_parameters(message.outputs.add(name=output.name).parameters, where, output.parameters)
    if len(raw):
        raise InvalidRequest(f"{len(raw)} bytes follow the tensors: {_BINARY_SIZE} of each tensor must say its size")
    return message, binary


def write_inference(answer: bytes, binary: Mapping[str, bool]) -> Reply:
    """Returns the answer as JSON, with raw tensors behind it if the request wants some; slow if it is large.

    Args:
        answer: a serialised ModelInferResponse.
        binary: the outputs that are wanted as raw bytes, from `read_inference`.

    Raises:
        InvalidRequest: the answer is too large for JSON.
    """
    message = pb.ModelInferResponse.FromString(answer)
    outputs, raws = [], []
    values = 0
    for tensor, raw in zip(message.outputs, message.raw_output_contents, strict=True):
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if binary.get(tensor.name, binary[""]):
            output["parameters"] = {_BINARY_SIZE: len(raw)}
            raws.append(raw)
        else:
            array: NDArray[Any] = np.frombuffer(raw, _DTYPES[tensor.datatype])
            values += array.size
            if values > MAX_TYPED_VALUES:
                raise InvalidRequest(
                    f"the outputs have more than {MAX_TYPED_VALUES} values, too many for JSON: ask for fewer rows or"
                    f' outputs, or for raw bytes, by "parameters": {{"{_BINARY}": true}} of each output'
                )
            output["data"] = array.tolist()
        outputs.append(output)
    head: dict[str, Any] = {"model_name": message.model_name, "model_version": message.model_version}
    if message.id:
        head["id"] = message.id
    text = msgspec.json.encode({**head, "outputs": outputs})
    if not raws:
        return Reply([text], JSON)
    return Reply([text, *raws], BYTES, headers=[("Inference-Header-Content-Length", str(len(text)))])


def decode(text: bytes | memoryview, kind: type[Any]) -> Any:
    """Returns JSON as a value of some type.

    Raises:
        InvalidRequest: it is not.
    """
    if len(text) > MAX_JSON_BYTES:
        raise InvalidRequest(
            f"the JSON has {len(text)} bytes, and may have {MAX_JSON_BYTES}: send large tensors as raw bytes, with"
            " Inference-Header-Content-Length"
        )
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not the JSON of this request: {error}") from error
    except RecursionError as error:
        raise InvalidRequest("the body is nested too deeply: nest data as its shape, or send it flat") from error


def _split(sent: Sent) -> tuple[memoryview, memoryview]:
    """Returns the JSON and the bytes behind it."""
    body = memoryview(sent.body)
    if (length := sent.headers.get(HEADER_LENGTH)) is None:
        return body, body[:0]
    if not (length.isascii() and length.isdecimal() and len(length) <= 10 and 0 < int(length) <= len(body)):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {quote(length)}, and the body has {len(body)} bytes: send the length"
            " of the JSON at its start"
        )
    return body[: int(length)], body[int(length) :]


def _add_input(message: pb.ModelInferRequest, where: str, tensor: _Input, raw: memoryview) -> memoryview:
    """Adds an input, and returns the raw bytes behind it."""
    added = message.inputs.add(name=tensor.name, datatype=tensor.datatype)
    try:
        added.shape.extend(tensor.shape)
    except ValueError as error:
        raise InvalidRequest(f"{where}.shape holds a number that is out of range: send the shape of data") from error
    size = tensor.parameters.pop(_BINARY_SIZE, None)
    _add_parameters(added.parameters, f"{where}.parameters", tensor.parameters)
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(raw):
            raise InvalidRequest(
                f"{where}.parameters.{_BINARY_SIZE} is {size}, and {len(raw)} bytes are left behind the JSON: send as"
                " many as the tensor has"
            )
        if tensor.data is not None:
            raise InvalidRequest(f"{where} has data and {_BINARY_SIZE}: send one of them")
        message.raw_input_contents.append(bytes(raw[:size]))
        return raw[size:]
    if tensor.data is None:
        raise InvalidRequest(f"{where} has no data: send its values there, or raw bytes with {_BINARY_SIZE}")
    field = _FIELDS.get(tensor.datatype)
    if field is None:
        raise InvalidRequest(f"{where}.datatype is {quote(tensor.datatype)}: send FP32 or UINT8")
    try:
        getattr(added.contents, field).extend(_flat(tensor.data))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"{where}.data holds what is no {tensor.datatype}: {error}; send numbers") from error
    return raw


def _flat(data: list[Any]) -> list[Any]:
    for _ in range(_MAX_AXES):
        if not data or not isinstance(data[0], list):
            break
        data = list(chain.from_iterable(data))
    if bool in set(map(type, data)):
        raise TypeError("true or false")
    return data


def _boolean(where: str, parameters: _Parameters, name: str, *, default: bool) -> bool:
    value = parameters.pop(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{where}.{name} is {quote(str(value))}: send true or false")
    return value


def _add_parameters(added: Any, where: str, parameters: _Parameters) -> None:
    for name, value in parameters.items():
        try:
            if isinstance(value, bool):
                added[name].bool_param = value
            elif isinstance(value, int):
                added[name].int64_param = value
            elif isinstance(value, float):
                added[name].double_param = value
            else:
                added[name].string_param = value
        except ValueError as error:
            raise InvalidRequest(f"{where}.{name} is out of range: leave it out") from error
