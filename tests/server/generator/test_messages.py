from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ganserve.bundle import Card
from ganserve.v1 import generator_pb2 as pb
from server.generator.messages import serialize_response
from server.limits import ImageFormat
from tests.server.tiny_cards import GENERATOR

KINDS: Any = st.sampled_from([pb.GenerateResponse, pb.TranslateResponse])
SHAPES = hnp.array_shapes(min_dims=4, max_dims=4, max_side=6)
IMAGES = st.one_of(hnp.arrays(np.uint8, SHAPES), hnp.arrays(np.float32, SHAPES, elements=st.floats(-1, 1, width=32)))


def card_of(name: str = "tiny", version: int = 1) -> Card:
    return msgspec.structs.replace(GENERATOR, name=name, version=version)


def format_of(images: NDArray[Any]) -> ImageFormat:
    return ImageFormat.FLOAT32 if images.dtype == np.float32 else ImageFormat.PIXELS


def by_protobuf(kind: Any, name: str, version: int, images: NDArray[Any]) -> Any:
    dtype = pb.DATA_TYPE_FLOAT32 if images.dtype == np.float32 else pb.DATA_TYPE_UINT8
    tensor = pb.Tensor(dtype=dtype, shape=images.shape, data=images.tobytes())
    return kind(model=name, version=version, images=tensor)


@given(KINDS, st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.integers(0, 2**63 - 1), IMAGES)
def test_a_tensor_is_serialised_as_protobuf_does(kind: Any, name: str, version: int, images: NDArray[Any]) -> None:
    expected = by_protobuf(kind, name, version, images)
    answer = serialize_response(kind, card_of(name, version), images, format_of(images))
    assert kind.FromString(answer) == expected
    assert answer == expected.SerializeToString(deterministic=True)


@pytest.mark.parametrize("rows", [1, 2, 31, 32, 341, 342, 8192])  # so that the lengths take one to three bytes
def test_tensors_of_any_size_can_be_read(rows: int) -> None:
    images = np.arange(rows * 4 * 4 * 24, dtype=np.uint32).astype(np.uint8).reshape(rows, 4, 4, 24)
    answer = serialize_response(pb.GenerateResponse, card_of(), images, ImageFormat.PIXELS)
    assert pb.GenerateResponse.FromString(answer) == by_protobuf(pb.GenerateResponse, "tiny", 1, images)


@pytest.mark.parametrize(
    "view",
    [
        lambda batch: batch[2:5],  # some rows of a batch
        lambda batch: batch.transpose(0, 2, 3, 1),
        lambda batch: batch[::-1],
        lambda batch: batch.astype(">f4"),
    ],
)
def test_arrays_of_any_memory_layout_are_sent_in_order(view: Any) -> None:
    images = view(np.random.default_rng(0).random((8, 3, 4, 6), dtype=np.float32))
    answer = serialize_response(pb.GenerateResponse, card_of(), images, ImageFormat.FLOAT32)
    tensor = pb.GenerateResponse.FromString(answer).images
    sent = np.frombuffer(tensor.data, "<f4").reshape(tuple(tensor.shape))
    np.testing.assert_array_equal(sent, images)


def test_answers_of_the_same_shape_differ_by_model() -> None:
    images = np.zeros((1, 2, 2, 1), np.uint8)
    kinds: list[Any] = [pb.GenerateResponse, pb.TranslateResponse]
    answers = [
        kind.FromString(serialize_response(kind, card_of(name, version), images, ImageFormat.PIXELS))
        for kind in kinds
        for name, version in (("tiny", 1), ("tiny", 2), ("other", 1))
    ]
    assert [(answer.model, answer.version) for answer in answers] == 2 * [("tiny", 1), ("tiny", 2), ("other", 1)]
