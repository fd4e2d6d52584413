from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import ServerFault, one_line
from client.sdk.model_info import MAX_CARD_BYTES, ModelDescription, description_from, models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import model, translator

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


def test_a_description_holds_what_the_server_reports() -> None:
    sent = answer(file_bytes={"model.onnx": 12}, precision="bf16", ready=True)
    assert description_from(ASKED, sent) == ModelDescription(
        model=models_from(pb.ListModelsResponse(models=[model()]))[0],
        card=CARD,
        file_bytes={"model.onnx": 12},
        precision="bf16",
        ready=True,
    )


@given(st.dictionaries(PRINTABLE, JSON, max_size=5))
def test_unknown_fields_are_kept(fields: dict[str, Any]) -> None:
    card = fields | CARD
    assert description_from(ASKED, answer(card)).card == card


def test_the_requested_version_is_described() -> None:
    asked = pb.DescribeModelRequest(model="dcgan", version=3)
    assert description_from(asked, answer()).model.version == 3


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (pb.DescribeModelResponse(), "an empty name"),
        (answer(model=model("other")), "it describes 'other':3, not 'dcgan'"),
        (answer(model=model(latent_dim=0)), "with a size or version out of range"),
        (answer(CARD | {"name": "other"}), "its card of 'dcgan':3 belongs to another model"),
        (answer({"name": "dcgan", "version": 4}), "its card of 'dcgan':3 belongs to another model"),
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
        (answer('{"a": ' + "[" * 50 + "]" * 50 + "}"), "is nested more than 16 levels deep"),
        (answer(json.dumps(CARD | {"a": "x" * MAX_CARD_BYTES})), "characters"),
        (answer(file_bytes={"model.onnx": -1}), "with invalid files"),
        (answer(file_bytes={"\x1b": 1}), "with invalid files"),
        (answer(file_bytes={str(name): 1 for name in range(2000)}), "with invalid files"),
        (answer(precision="\x07"), "with unprintable text"),
    ],
)
def test_an_invalid_description_is_a_server_fault(sent: pb.DescribeModelResponse, message: str) -> None:
    with pytest.raises(ServerFault) as error:
        description_from(ASKED, sent)
    assert message in str(error.value)
    assert str(error.value) == one_line(str(error.value))
    assert len(str(error.value)) < 400


def test_a_description_of_another_version_is_a_server_fault() -> None:
    with pytest.raises(ServerFault, match="it describes 'dcgan':3, not 'dcgan':2"):
        description_from(pb.DescribeModelRequest(model="dcgan", version=2), answer())


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a\x1b[2J"},
        {"device": "cpu\n"},
        {"version": 0},
        {"latent_dim": 0},
        {"latent_dim": 2**40},
        {"channels": 5},
        {"height": 0},
        {"width": -1},
        {"max_request_rows": -1},
        {"max_request_bytes": -1},
        {"task": 7, "version": 0},
        {"task": 7, "name": "a\n"},
    ],
)
def test_invalid_models_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ServerFault, match="it lists"):
        models_from(pb.ListModelsResponse(models=[model(**fields)]))  # type: ignore[arg-type]  # fields of all types


@pytest.mark.parametrize(
    "fields",
    [
        {"input_image": None},
        {"input_image": pb.ImageShape(channels=3, height=4)},
        {"input_image": pb.ImageShape(channels=5, height=4, width=4)},
        {"input_image": pb.ImageShape(channels=3, height=-4, width=4)},
        {"input_image": pb.ImageShape(channels=3, height=4, width=2**40)},
        {"latent_dim": 6},
        {"max_request_bytes": -1},
    ],
)
def test_invalid_translators_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ServerFault, match="it lists the model 'a2b'"):
        models_from(pb.ListModelsResponse(models=[translator(**fields)]))  # type: ignore[arg-type]  # fields of all types


def test_a_model_without_a_task_generates() -> None:
    [info] = models_from(pb.ListModelsResponse(models=[model(task=pb.TASK_UNSPECIFIED)]))
    assert (info.task, info.input_channels, info.input_height, info.input_width) == ("generate", 0, 0, 0)


def test_a_model_of_an_unknown_task_is_listed_whatever_its_sizes() -> None:
    future = model("sounds", 2, task=7, latent_dim=0, channels=0, height=-1, max_request_rows=-1)
    generator, sounds = models_from(pb.ListModelsResponse(models=[model(), future]))
    assert (generator.task, sounds.name, sounds.task) == ("generate", "sounds", "unknown")


def test_request_limits_are_listed() -> None:
    said, unsaid = models_from(pb.ListModelsResponse(models=[model(max_request_bytes=5), model()]))
    assert (said.max_request_bytes, unsaid.max_request_bytes) == (5, 0)
