"""Remembers requests, so that one which differs from an earlier one in its values alone need not be parsed again.

Callers tend to send the same message with other latents, thousands of times a second, and reading it costs more than a
tiny model takes to compute. In such a message the values are the last field, so all before them, the head, says what
is asked for. Heads are compared byte for byte: what was admitted once is admitted again.

Requests with an id are not remembered, as each tends to have another one, nor those with a long head.
"""

from __future__ import annotations

from typing import Any, Final, Generic, NamedTuple, TypeVar

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from server.rpc.tensor_bytes import length_prefixed

_MAX_SIZES: Final = 256  # of different messages that are remembered
_MAX_HEAD_BYTES: Final = 1 << 10
_RAW: Final = pb.ModelInferRequest.DESCRIPTOR.fields_by_name["raw_input_contents"].number
_Admitted = TypeVar("_Admitted")


class _Remembered(NamedTuple):
    head: bytes
    admitted: Any


class RepeatedRequests(Generic[_Admitted]):
    """What was admitted lately, by the head of its message: one for each size of message, the last."""

    def __init__(self) -> None:
        self._by_size: dict[int, _Remembered] = {}

    def find(self, body: bytes) -> tuple[_Admitted, bytes] | None:
        """What was admitted of a message that has the same head, and the values of this one; None if none is known."""
        known = self._by_size.get(len(body))
        if known is None or not body.startswith(known.head):
            return None
        return known.admitted, body[len(known.head) :]

    def remember(self, body: bytes, request: pb.ModelInferRequest, admitted: _Admitted) -> None:
        """Takes note of a message that was admitted, if its values are its last field.

        Args:
            body: the serialised message.
            request: the same, parsed.
            admitted: what is to be done for every message with this head; it must say nothing of the values.
        """
        if request.id or len(request.raw_input_contents) != 1:
            return
        values = request.raw_input_contents[0]
        prefix = length_prefixed(_RAW, len(values))
        if not values or len(body) - len(values) > _MAX_HEAD_BYTES or not body.endswith(prefix + values):
            return
        said = body[: -len(prefix) - len(values)]
        try:  # the ending may have been that of another field which happens to look alike
            alone = pb.ModelInferRequest.FromString(said)
        except DecodeError:
            return
        alone.raw_input_contents.append(values)
        if alone != request:
            return
        if len(self._by_size) >= _MAX_SIZES:
            self._by_size.clear()
        self._by_size[len(body)] = _Remembered(said + prefix, admitted)
