from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import unknown_fields
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from server.rpc.tensor_bytes import length_prefixed, varint


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, b"\0"), (1, b"\1"), (127, b"\x7f"), (128, b"\x80\1"), (300, b"\xac\2"), (2**32, b"\x80\x80\x80\x80\x10")],
)
def test_numbers_are_encoded_with_seven_bits_per_byte(number: int, written: bytes) -> None:
    assert varint(number) == written


@given(st.integers(0, 2**63 - 1))
def test_protobuf_reads_every_number_back(number: int) -> None:
    count = pb.StatisticDuration.DESCRIPTOR.fields_by_name["count"].number
    assert pb.StatisticDuration.FromString(varint(count << 3) + varint(number)).count == number


@given(st.integers(1, 2**29 - 1), st.binary(max_size=300))
def test_protobuf_reads_every_field_back(field_number: int, data: bytes) -> None:
    message = pb.ServerLiveRequest.FromString(length_prefixed(field_number, len(data)) + data)
    fields: Any = unknown_fields.UnknownFieldSet(message)  # missing in its stub
    (field,) = fields
    assert (field.field_number, field.data) == (field_number, data)
