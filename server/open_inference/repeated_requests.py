"""Caches admitted requests, so that one that differs from an earlier one only in its values is not parsed again.

Clients tend to send the same message with other latents, thousands of times per second, and parsing it costs more than
computing a tiny model. In such a message the values are the last field, and the bytes before them, the head, define
the rest of the request. Heads are compared byte by byte, so an equal head needs no new check.

Requests with an id are not cached, because each usually has another one, and neither are those with a long head.
"""

from __future__ import annotations

from typing import Any, Final, Generic, NamedTuple, TypeVar

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from server.rpc.tensor_bytes import length_prefixed

_MAX_SIZES: Final = 256  # of messages in the cache
_MAX_HEAD_BYTES: Final = 1 << 10
_RAW: Final = pb.ModelInferRequest.DESCRIPTOR.fields_by_name["raw_input_contents"].number
_Admitted = TypeVar("_Admitted")


class Remembered(NamedTuple):
    """A cached request: the bytes before its values, and what its admission found."""

    head: bytes
    admitted: Any


class RepeatedRequests(Generic[_Admitted]):
    """A cache of admitted requests: the latest one for each size of message."""

    def __init__(self) -> None:
        self._by_size: dict[int, Remembered] = {}

    def find(self, body: bytes) -> tuple[_Admitted, bytes] | None:
        """Returns what was cached for the head of this message, and its values; None if the head is unknown."""
        known = self.known(body)
        return None if known is None else (known.admitted, body[len(known.head) :])

    def known(self, body: bytes) -> Remembered | None:
        """Returns the cached request with the head of this message; None if the head is unknown."""
        known = self._by_size.get(len(body))
        return known if known is not None and body.startswith(known.head) else None

    def remember(self, body: bytes, request: pb.ModelInferRequest, admitted: _Admitted) -> None:
        """Caches a message that was admitted, if its values are its last field.

        Args:
            body: the serialised message.
            request: the parsed message.
            admitted: the result for every message with this head, without the values.
        """
        if request.id or len(request.raw_input_contents) != 1:
            return
        values = request.raw_input_contents[0]
        prefix = length_prefixed(_RAW, len(values))
        if not values or len(body) - len(values) > _MAX_HEAD_BYTES or not body.endswith(prefix + values):
            return
        rest = body[: -len(prefix) - len(values)]
        try:  # another field may happen to end with the same bytes
            alone = pb.ModelInferRequest.FromString(rest)
        except DecodeError:
            return
        alone.raw_input_contents.append(values)
        if alone != request:
            return
        if len(self._by_size) >= _MAX_SIZES:
            self._by_size.clear()
        self._by_size[len(body)] = Remembered(rest + prefix, admitted)
