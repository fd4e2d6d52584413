"""Converts between the messages of ModelInfer and plain values, without checks.

Answers are serialised by hand: protobuf makes the head once per shape of answer, and each array follows with its tag
and length. Protobuf accepts the fields of a message in any order, so the id comes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from server.limits import Contract
from server.open_inference.parameters import Value
from server.open_inference.validation import SentInference
from server.rpc.tensor_bytes import length_prefixed

_SHAPE_LENGTH: Final = 5  # axes to read: a hostile shape has millions, and five are enough to refuse it
_OUTPUTS_LENGTH: Final = 3  # outputs to read: one more than exist, so one is unknown or repeated
_PARAMETERS_LENGTH: Final = 16  # parameters to read: more than exist, so one is unknown
_MAX_HEADS: Final = 4096  # cached, one per model, number of rows and set of outputs

_ID: Final = pb.ModelInferResponse.DESCRIPTOR.fields_by_name["id"].number
_RAW: Final = pb.ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number
_STREAMED: Final = pb.ModelStreamInferResponse.DESCRIPTOR.fields_by_name["infer_response"].number
_IS_FINAL: Final = pb.ModelInferResponse(
    parameters={"triton_final_response": pb.InferParameter(bool_param=True)}
).SerializeToString()
_NO_TYPED: Final[Mapping[str, Any]] = {}
_NO_PARAMETERS: Final[Mapping[str, Value]] = {}
_NO_INPUT: Final = pb.ModelInferRequest.InferInputTensor()


def sent_inference(request: pb.ModelInferRequest) -> SentInference:
    """Returns the values of a request; keep the message as long as you use them."""
    inputs = request.inputs
    tensor = inputs[0] if inputs else _NO_INPUT
    typed = _NO_TYPED
    if tensor.HasField("contents"):
        typed = {field.name: values for field, values in tensor.contents.ListFields()}
    parameters = _NO_PARAMETERS
    if sent := request.parameters:
        parameters = {name: _value(value) for name, value in islice(sent.items(), _PARAMETERS_LENGTH)}
    return SentInference(
        request.id,
        len(inputs),
        tensor.name,
        tensor.datatype,
        tuple(tensor.shape[:_SHAPE_LENGTH]),
        tensor.parameters,
        typed,
        request.raw_input_contents,
        [(output.name, output.parameters) for output in request.outputs[:_OUTPUTS_LENGTH]],
        parameters,
    )


def stream_error(message: str, request_id: str) -> bytes:
    """Returns the answer to a message of a stream that failed."""
    named = pb.ModelInferResponse(id=request_id)
    response: bytes = pb.ModelStreamInferResponse(error_message=message, infer_response=named).SerializeToString()
    return response


class _Head(NamedTuple):
    """What precedes each array of an answer."""

    before: tuple[bytes, ...]  # the first also holds all other fields of the answer
    sizes: tuple[int, ...]  # of the arrays, in bytes
    total_bytes: int


def serialize_inference(
    contract: Contract,
    arrays: Mapping[str, NDArray[Any]],
    outputs: tuple[str, ...],
    rows: int,
    request_id: str,
    *,
    streamed: bool = False,
    says_final: bool = False,
) -> bytes:
    """Returns a serialised answer; its arrays are copied once.

    Args:
        contract: contract of the model.
        arrays: by output name, (rows, *row_shape).
        outputs: outputs to send, in this order.
        rows: number of rows of each array.
        request_id: id of the request; may be empty.
        streamed: whether the answer is a ModelStreamInferResponse instead of a ModelInferResponse.
        says_final: whether to mark the answer as the final one of its request.
    """
    head = _head(contract, outputs, rows)
    tail = _IS_FINAL if says_final else b""
    if request_id:
        encoded = request_id.encode()
        tail += length_prefixed(_ID, len(encoded)) + encoded
    parts: list[bytes | memoryview] = []
    if streamed:
        parts.append(length_prefixed(_STREAMED, head.total_bytes + len(tail)))
    for name, before, size in zip(outputs, head.before, head.sizes, strict=True):
        array = np.ascontiguousarray(arrays[name])
        if array.nbytes != size:
            raise RuntimeError(f"{name} has {array.nbytes} bytes, and {rows} rows of it need {size}")
        parts += (before, array.data)
    parts.append(tail)
    return b"".join(parts)


def serialize_alike(
    contract: Contract, arrays: Mapping[str, NDArray[Any]], outputs: tuple[str, ...], rows: int
) -> list[bytes]:
    """Returns the answers to requests without ids that were computed together, in their order.

    Args:
        contract: contract of the model.
        arrays: by output name, the rows of all requests.
        outputs: outputs to send, in this order.
        rows: number of rows of each request.
    """
    head = _head(contract, outputs, rows)
    views = [np.ascontiguousarray(arrays[name]).data.cast("B") for name in outputs]
    requests = views[0].nbytes // head.sizes[0]
    if any(view.nbytes != requests * size for view, size in zip(views, head.sizes, strict=True)):
        raise RuntimeError(f"{', '.join(outputs)} of {requests} requests of {rows} rows have {list(views)} bytes")
    fields = list(zip(head.before, views, head.sizes, strict=True))
    return [
        b"".join(part for before, view, size in fields for part in (before, view[at * size : (at + 1) * size]))
        for at in range(requests)
    ]


@lru_cache(maxsize=_MAX_HEADS)
def _head(contract: Contract, outputs: tuple[str, ...], rows: int) -> _Head:
    message = pb.ModelInferResponse(model_name=contract.card.name, model_version=str(contract.card.version))
    tensors = [contract.outputs[name] for name in outputs]
    for tensor in tensors:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=(rows, *tensor.row_shape))
    sizes = tuple(rows * tensor.row_bytes for tensor in tensors)
    first, *others = (length_prefixed(_RAW, size) for size in sizes)
    before = (message.SerializeToString() + first, *others)
    return _Head(before, sizes, sum(map(len, before)) + sum(sizes))


def _value(parameter: pb.InferParameter) -> Value:
    choice = parameter.WhichOneof("parameter_choice")
    value: Value = getattr(parameter, choice) if choice else None
    return value
