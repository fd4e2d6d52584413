"""Checks a ModelInfer request of the Open Inference Protocol before it is queued; independent of protobuf and runtimes.

Data is read only after its size has been checked, so a shape of 2**62 rows or a million inputs cost no more than the
message that holds them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ganserve.wording import counted
from server.errors import InvalidRequest
from server.limits import Contract, Tensor, check_finite, quote, show_shape
from server.models.model_settings import LABEL
from server.open_inference.parameters import NO_OPTIONS, Options, Value, read_options

_FP32: Final = "FP32"
MAX_ID_LENGTH: Final = 256
MAX_TYPED_VALUES: Final = 1 << 20  # each becomes a Python object on the way
_TYPED_FIELDS: Final = {"FP32": "fp32_contents", "UINT8": "uint_contents"}
_MAX_VERSION_DIGITS: Final = 19


@dataclass(slots=True, eq=False)
class SentInference:
    """A request as it was sent, unchecked."""

    request_id: str
    input_count: int
    name: str  # of the first input, like the next five fields
    datatype: str
    shape: tuple[int, ...]  # truncated if it is long
    input_parameters: Collection[str]
    typed: Mapping[str, Sequence[Any]]  # values by field name
    raw: Sequence[bytes]  # reading an item copies it, so read it after every other check
    outputs: Sequence[
        tuple[str, Collection[str]]
    ]  # names, and the names of their parameters; truncated if there are many
    parameters: Mapping[str, Value]


@dataclass(slots=True, eq=False)
class AdmittedInference:
    """A request that passed every check."""

    inputs: NDArray[Any]  # (rows, *row_shape), a read-only view of the request
    rows: int
    outputs: tuple[str, ...]  # requested, in the order of the answer
    output_set: frozenset[str]
    request_id: str
    options: Options

    def without_values(self) -> AdmittedInference:
        """Returns a copy without rows; call `with_values` before you use it."""
        # Not a view, which would keep the request in memory.
        return replace(self, inputs=np.empty((0, *self.inputs.shape[1:]), self.inputs.dtype))

    def with_values(self, data: bytes) -> AdmittedInference:
        """Returns a copy with new values: raw latents of the same size.

        Raises:
            InvalidRequest: a value is not finite.
        """
        inputs = self.read(data)
        check_finite(inputs)
        return AdmittedInference(inputs, self.rows, self.outputs, self.output_set, self.request_id, self.options)

    def read(self, data: bytes) -> NDArray[Any]:
        """Returns raw latents, of this request or of several alike, as rows; unchecked."""
        return np.frombuffer(data, self.inputs.dtype).reshape(-1, *self.inputs.shape[1:])


def read_version(text: str) -> int | str:
    """Returns the version in a request, a number or a label; 0 if it is empty.

    Raises:
        InvalidRequest: it is neither.
    """
    if not text:
        return 0
    if LABEL.fullmatch(text):
        return text
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_VERSION_DIGITS):
        raise InvalidRequest(
            f"model_version is {quote(text)}: send a number or a label, or leave it empty for the default one"
        )
    return int(text)


def admit_inference(sent: SentInference, contract: Contract) -> AdmittedInference:
    """Checks a request and reads its rows; slow for many rows.

    Args:
        sent: the request.
        contract: contract of the requested model.

    Raises:
        InvalidRequest: the request can never succeed.
    """
    if len(sent.request_id) > MAX_ID_LENGTH:
        raise InvalidRequest(f"id has {len(sent.request_id)} characters: send at most {MAX_ID_LENGTH}")
    rows = _checked_rows(sent, contract)
    outputs = _wanted_outputs(sent.outputs, contract)
    _check_response(rows, outputs, contract)
    options = read_options(sent.parameters) if sent.parameters else NO_OPTIONS
    inputs = _read_typed(sent, rows, contract.input) if sent.typed else _read_raw(sent, rows, contract.input)
    if contract.input.datatype == _FP32:
        check_finite(inputs)
    return AdmittedInference(inputs, rows, outputs, frozenset(outputs), sent.request_id, options)


def _checked_rows(sent: SentInference, contract: Contract) -> int:
    wanted = contract.input
    if sent.input_count != 1:
        raise InvalidRequest(f"inputs has {sent.input_count} tensors: send one, {wanted.name!r}")
    if sent.name != wanted.name:
        raise InvalidRequest(
            f"inputs[0].name is {quote(sent.name)}: {contract.card.name!r} takes one input, {wanted.name!r}"
        )
    if sent.input_parameters:
        raise InvalidRequest(_unknown_parameter(f"input {wanted.name!r}", sent.input_parameters))
    if sent.datatype != wanted.datatype:
        raise InvalidRequest(f"{wanted.name}.datatype is {quote(sent.datatype)}: send {wanted.datatype}")
    if sent.shape[1:] != wanted.row_shape:
        takes = ", ".join(map(str, wanted.row_shape))
        raise InvalidRequest(
            f"{wanted.name}.shape is {show_shape(sent.shape)}: {contract.card.name!r} takes (rows, {takes})"
        )
    rows = sent.shape[0]
    contract.check_rows(f"{wanted.name}.shape: the number of rows", rows)
    return rows


def _wanted_outputs(sent: Sequence[tuple[str, Collection[str]]], contract: Contract) -> tuple[str, ...]:
    if not sent:
        return tuple(contract.outputs)
    wanted: list[str] = []
    for name, parameters in sent:
        if name not in contract.outputs:
            known = " and ".join(map(repr, contract.outputs))
            raise InvalidRequest(f"no output {quote(name)}: {contract.card.name!r} has {known}")
        if name in wanted:
            raise InvalidRequest(f"output {name!r} is requested twice: name each output once")
        if parameters:
            raise InvalidRequest(_unknown_parameter(f"output {name!r}", parameters))
        wanted.append(name)
    return tuple(wanted)


def _check_response(rows: int, outputs: tuple[str, ...], contract: Contract) -> None:
    row_bytes = sum([contract.outputs[name].row_bytes for name in outputs])
    limit = contract.config.max_response_bytes
    if rows * row_bytes > limit:
        fitting = limit // row_bytes
        fewer = f"ask for at most {counted(fitting, 'row')} at a time" if fitting else "ask for output 'pixels' only"
        names = " and ".join(outputs)
        raise InvalidRequest(
            f"{names} of {counted(rows, 'row')} are {rows * row_bytes} bytes, and a response holds {limit}: {fewer}"
        )


def _read_raw(sent: SentInference, rows: int, wanted: Tensor) -> NDArray[Any]:
    if len(sent.raw) != 1:
        alternative = f"or in contents.{_TYPED_FIELDS[wanted.datatype]}" if not sent.raw else "and nothing else"
        raise InvalidRequest(
            f"raw_input_contents has {len(sent.raw)} entries for 1 input: send the values of {wanted.name} there,"
            f" {alternative}"
        )
    data = sent.raw[0]
    if len(data) != (size := rows * wanted.row_bytes):
        raise InvalidRequest(
            f"raw_input_contents[0] has {len(data)} bytes, but {wanted.name} of shape {show_shape(sent.shape)} and"
            f" {wanted.datatype} needs {size}"
        )
    return np.frombuffer(data, wanted.dtype).reshape(sent.shape)


def _read_typed(sent: SentInference, rows: int, wanted: Tensor) -> NDArray[Any]:
    if sent.raw:
        raise InvalidRequest(f"contents of {wanted.name} and raw_input_contents are both set: send one of them")
    right = _TYPED_FIELDS[wanted.datatype]
    if wrong := next((field for field in sent.typed if field != right), None):
        raise InvalidRequest(f"contents.{wrong} of {wanted.name} is set: {wanted.datatype} goes into contents.{right}")
    values = sent.typed[right]
    if len(values) > MAX_TYPED_VALUES:
        raise InvalidRequest(
            f"contents.{right} has {len(values)} values, and at most {MAX_TYPED_VALUES} are accepted: send"
            " raw_input_contents"
        )
    if len(values) != (size := rows * wanted.row_bytes // wanted.dtype.itemsize):
        raise InvalidRequest(
            f"contents.{right} has {len(values)} values, but {wanted.name} of shape {show_shape(sent.shape)} needs"
            f" {size}"
        )
    if wanted.datatype == _FP32:
        return np.fromiter(values, np.float32, size).reshape(sent.shape)
    wide = np.fromiter(values, np.uint32, size)
    if (largest := wide.max()) > np.iinfo(np.uint8).max:
        raise InvalidRequest(f"contents.{right} holds {largest}: {wanted.datatype} values are 0 to 255")
    return wide.astype(np.uint8).reshape(sent.shape)


def _unknown_parameter(owner: str, parameters: Collection[str]) -> str:
    return f"{owner} has the parameter {quote(next(iter(parameters)))}, which is not supported: leave it out"
