from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import ServerFault, one_line
from client.sdk.model_info import MAX_CARD_BYTES, ModelDescription, description_from, models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import model

ASKED = pb.DescribeModelRequest(model="dcgan")
CARD = {"name": "dcgan", "version": 3}
PRINTABLE = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | PRINTABLE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PRINTABLE, inner, max_size=3),
    max_leaves=8,
)


def answer(card: object = CARD, **fields: Any) -> pb.DescribeModelResponse:
    text = card if isinstance(card, str) else json.dumps(card)
    defaults: dict[str, Any] = {"model": model(), "card": text}
    return pb.DescribeModelResponse(**(defaults | fields))


def test_a_description_holds_what_the_server_says() -> None:
    sent = answer(file_bytes={"model.onnx": 12}, precision="bf16", ready=True)
    assert description_from(ASKED, sent) == ModelDescription(
        model=models_from(pb.ListModelsResponse(models=[model()]))[0],
        card=CARD,
        file_bytes={"model.onnx": 12},
        precision="bf16",
        ready=True,
    )


@given(st.dictionaries(PRINTABLE, JSON, max_size=5))
def test_fields_that_nobody_knows_are_kept(fields: dict[str, Any]) -> None:
    card = fields | CARD
    assert description_from(ASKED, answer(card)).card == card


def test_the_version_that_was_asked_for_is_taken() -> None:
    asked = pb.DescribeModelRequest(model="dcgan", version=3)
    assert description_from(asked, answer()).model.version == 3


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (pb.DescribeModelResponse(), "an empty name"),
        (answer(model=model("other")), "it describes 'other':3, not 'dcgan'"),
        (answer(model=model(latent_dim=0)), "with a size or version out of range"),
        (answer(CARD | {"name": "other"}), "its card of 'dcgan':3 is another model's"),
        (answer({"name": "dcgan", "version": 4}), "its card of 'dcgan':3 is another model's"),
        (answer(""), "is not JSON ("),
        (answer("nonsense"), "is not JSON ("),
        (answer('{"a": NaN}'), "is not JSON (it holds NaN)"),
        (answer('{"a": -Infinity}'), "is not JSON (it holds -Infinity)"),
        (answer('{"a": [1e999]}'), "holds a number that is too large"),
        (answer('{"a": ' + "9" * 5000 + "}"), "is not JSON ("),
        (answer([CARD]), "is not a JSON object"),
        (answer(CARD | {"a": ["\x1b[2J"]}), "holds unprintable text"),
        (answer(CARD | {"a": {"two\nlines": 1}}), "holds unprintable text"),
        (answer(CARD | {"a": "\ud800"}), "holds unprintable text"),
        (answer("[" * 100_000 + "]" * 100_000), "is not JSON ("),
        (answer('{"a": ' + "[" * 50 + "]" * 50 + "}"), "is nested more than 16 times"),
        (answer(json.dumps(CARD | {"a": "x" * MAX_CARD_BYTES})), "characters"),
        (answer(file_bytes={"model.onnx": -1}), "with invalid files"),
        (answer(file_bytes={"\x1b": 1}), "with invalid files"),
        (answer(file_bytes={str(name): 1 for name in range(2000)}), "with invalid files"),
        (answer(precision="\x07"), "with unprintable text"),
    ],
)
def test_an_answer_that_cannot_be_is_a_fault_of_the_server(sent: pb.DescribeModelResponse, message: str) -> None:
    with pytest.raises(ServerFault) as error:
        description_from(ASKED, sent)
    assert message in str(error.value)
    assert str(error.value) == one_line(str(error.value))
    assert len(str(error.value)) < 400


def test_another_version_than_was_asked_for_is_a_fault_of_the_server() -> None:
    with pytest.raises(ServerFault, match="it describes 'dcgan':3, not 'dcgan':2"):
        description_from(pb.DescribeModelRequest(model="dcgan", version=2), answer())
