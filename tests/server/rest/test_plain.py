"""Tests for server.rest.plain."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from ganserve.v1 import generator_pb2
from server.rest.plain import plain


def test_numbers_stay_numbers_and_unset_fields_have_their_default() -> None:
    values = plain(pb.StatisticDuration(count=2**60))
    assert values == {"count": 2**60, "ns": 0}


def test_enums_maps_bytes_and_messages_become_json() -> None:
    model = generator_pb2.Model(name="m", task=generator_pb2.TASK_TRANSLATE)
    described = plain(generator_pb2.DescribeModelResponse(model=model, file_bytes={"a": 1}))
    assert described["model"]["task"] == "TASK_TRANSLATE"
    assert "input_image" not in described["model"]  # a message that is not set
    assert described["file_bytes"] == {"a": 1}
    tensor = generator_pb2.Tensor(shape=[1, 2], data=b"\x00\xff")
    assert plain(tensor) == {"dtype": "DATA_TYPE_UNSPECIFIED", "shape": [1, 2], "data": "AP8="}


def test_an_unknown_enum_value_stays_a_number() -> None:
    assert plain(generator_pb2.Model.FromString(b"\x70\x63"))["task"] == 99


def test_only_the_chosen_field_of_a_oneof_is_there() -> None:
    assert plain(pb.InferParameter(bool_param=False)) == {"bool_param": False}
