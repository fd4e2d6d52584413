from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.config import ServerConfig
from server.errors import InvalidRequest
from server.limits import contract_of
from server.open_inference.parameters import NO_OPTIONS, Options
from server.open_inference.validation import MAX_TYPED_VALUES, SentInference, admit_inference, read_version
from tests.server.tiny_cards import GENERATOR, TRANSLATOR

CONFIG = ServerConfig(max_request_rows=8)
LATENTS = np.arange(8, dtype=np.float32).reshape(2, 4)
PIXELS = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
TWO_ROWS = SentInference("", 1, "latents", "FP32", (2, 4), (), {}, [LATENTS.tobytes()], [], {})
TWO_IMAGES = replace(TWO_ROWS, name="input_pixels", datatype="UINT8", shape=PIXELS.shape, raw=[PIXELS.tobytes()])


def admit(sent: SentInference, card: Any = GENERATOR, **limits: Any) -> Any:
    return admit_inference(sent, contract_of(card, replace(CONFIG, **limits)))


def test_raw_latents_are_read_without_a_copy() -> None:
    data = LATENTS.tobytes()
    admitted = admit(replace(TWO_ROWS, raw=[data]))
    np.testing.assert_array_equal(admitted.inputs, LATENTS)
    assert (admitted.rows, admitted.options) == (2, NO_OPTIONS)
    assert np.shares_memory(admitted.inputs, np.frombuffer(data, np.uint8))


def test_raw_pixels_are_read_unchanged() -> None:
    np.testing.assert_array_equal(admit(TWO_IMAGES, TRANSLATOR).inputs, PIXELS)


@pytest.mark.parametrize(
    ("sent", "card", "expected"),
    [
        (replace(TWO_ROWS, raw=[], typed={"fp32_contents": LATENTS.ravel().tolist()}), GENERATOR, LATENTS),
        (replace(TWO_IMAGES, raw=[], typed={"uint_contents": PIXELS.ravel().tolist()}), TRANSLATOR, PIXELS),
    ],
    ids=["latents", "pixels"],
)
def test_typed_values_equal_raw_values(sent: SentInference, card: Any, expected: Any) -> None:
    admitted = admit(sent, card)
    assert admitted.inputs.dtype == expected.dtype
    np.testing.assert_array_equal(admitted.inputs, expected)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([], ("images", "pixels")),
        (["pixels"], ("pixels",)),
        (["images"], ("images",)),
        (["pixels", "images"], ("pixels", "images")),
    ],
)
def test_outputs_are_returned_in_the_requested_order(names: list[str], wanted: tuple[str, ...]) -> None:
    assert admit(replace(TWO_ROWS, outputs=[(name, ()) for name in names])).outputs == wanted


def test_parameters_become_options() -> None:
    admitted = admit(replace(TWO_ROWS, parameters={"priority": 1, "timeout": 1500}))
    assert admitted.options == Options(priority=1, timeout_s=0.0015)


def spoilt(value: float) -> bytes:
    latents = LATENTS.copy()
    latents[1, 2] = value
    return latents.tobytes()


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"request_id": "i" * 257}, "id has 257 characters: send at most 256"),
    ({"input_count": 0, "name": ""}, "inputs has 0 tensors: send one, 'latents'"),
    ({"input_count": 2}, "inputs has 2 tensors: send one, 'latents'"),
    ({"name": "z"}, "inputs[0].name is 'z': 'tiny' takes one input, 'latents'"),
    (
        {"input_parameters": ("shared_memory_region",)},
        "input 'latents' has the parameter 'shared_memory_region', which is not supported: leave it out",
    ),
    ({"datatype": "FP64"}, "latents.datatype is 'FP64': send FP32"),
    ({"shape": ()}, "latents.shape is (): 'tiny' takes (rows, 4)"),
    ({"shape": (8,)}, "latents.shape is (8): 'tiny' takes (rows, 4)"),
    ({"shape": (2, 2, 2)}, "latents.shape is (2, 2, 2): 'tiny' takes (rows, 4)"),
    ({"shape": (1, 1, 1, 1, 1)}, "latents.shape is (1, 1, 1, 1, ...): 'tiny' takes (rows, 4)"),
    ({"shape": (4, 2)}, "latents.shape is (4, 2): 'tiny' takes (rows, 4)"),
    ({"shape": (2, -4)}, "latents.shape is (2, -4): 'tiny' takes (rows, 4)"),
    ({"shape": (0, 4)}, "latents.shape: the number of rows is 0: ask for at least 1 row"),
    ({"shape": (-1, 4)}, "latents.shape: the number of rows is -1: ask for at least 1 row"),
    ({"shape": (9, 4)}, "9 rows are too many for one request: ask for at most 8 at a time"),
    ({"shape": (2**62, 4)}, f"{2**62} rows are too many for one request: ask for at most 8 at a time"),
    ({"shape": (1, 4)}, "raw_input_contents[0] has 32 bytes, but latents of shape (1, 4) and FP32 needs 16"),
    ({"raw": [b""]}, "raw_input_contents[0] has 0 bytes, but latents of shape (2, 4) and FP32 needs 32"),
    (
        {"raw": []},
        "raw_input_contents has 0 entries for 1 input: send the values of latents there, or in contents.fp32_contents",
    ),
    (
        {"raw": [bytes(32)] * 2},
        "raw_input_contents has 2 entries for 1 input: send the values of latents there, and nothing else",
    ),
    ({"raw": [spoilt(np.nan)]}, "latents[1, 2] is nan: send finite values only"),
    ({"raw": [spoilt(-np.inf)]}, "latents[1, 2] is -inf: send finite values only"),
    (
        {"typed": {"fp32_contents": [0.0] * 8}},
        "contents of latents and raw_input_contents are both set: send one of them",
    ),
    (
        {"raw": [], "typed": {"fp64_contents": [0.0] * 8}},
        "contents.fp64_contents of latents is set: FP32 goes into contents.fp32_contents",
    ),
    (
        {"raw": [], "typed": {"fp32_contents": [0.0] * 8, "bytes_contents": [b""]}},
        "contents.bytes_contents of latents is set: FP32 goes into contents.fp32_contents",
    ),
    (
        {"raw": [], "typed": {"fp32_contents": [0.0] * 7}},
        "contents.fp32_contents has 7 values, but latents of shape (2, 4) needs 8",
    ),
    (
        {"raw": [], "typed": {"fp32_contents": range(MAX_TYPED_VALUES + 1)}},
        f"contents.fp32_contents has {MAX_TYPED_VALUES + 1} values, and at most {MAX_TYPED_VALUES} are accepted: send"
        " raw_input_contents",
    ),
    ({"raw": [], "typed": {"fp32_contents": [float("inf")] * 8}}, "latents[0, 0] is inf: send finite values only"),
    ({"outputs": [("faces", ())]}, "no output 'faces': 'tiny' has 'images' and 'pixels'"),
    ({"outputs": [("", ())]}, "no output '': 'tiny' has 'images' and 'pixels'"),
    (
        {"outputs": [("pixels", ()), ("pixels", ())]},
        "output 'pixels' is requested twice: name each output once",
    ),
    (
        {"outputs": [("pixels", ("classification",))]},
        "output 'pixels' has the parameter 'classification', which is not supported: leave it out",
    ),
    (
        {"outputs": [("images", ("shared_memory_region", "shared_memory_byte_size"))]},
        "output 'images' has the parameter 'shared_memory_region', which is not supported: leave it out",
    ),
    ({"parameters": {"temperature": 1.0}}, "parameter 'temperature' is not supported: leave it out"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSALS, ids=[message[:60] for _, message in REFUSALS])
def test_invalid_requests_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{re.escape(message)}$"):
        admit(replace(TWO_ROWS, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "latents"}, "inputs[0].name is 'latents': 'tiny-a2b' takes one input, 'input_pixels'"),
        ({"datatype": "INT8"}, "input_pixels.datatype is 'INT8': send UINT8"),
        ({"shape": (2, 3, 4, 6)}, "input_pixels.shape is (2, 3, 4, 6): 'tiny-a2b' takes (rows, 4, 6, 3)"),
        (
            {"raw": [], "typed": {"uint_contents": [256] * PIXELS.size}},
            "contents.uint_contents holds 256: UINT8 values are 0 to 255",
        ),
        (
            {"raw": [], "typed": {"int_contents": [0] * PIXELS.size}},
            "contents.int_contents of input_pixels is set: UINT8 goes into contents.uint_contents",
        ),
    ],
)
def test_invalid_images_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{re.escape(message)}$"):
        admit(replace(TWO_IMAGES, **changes), TRANSLATOR)


def test_a_response_counts_the_bytes_of_all_its_outputs() -> None:
    pixels, images = 3 * 4 * 6, 4 * 3 * 4 * 6
    limit = 2 * pixels + images  # two rows of pixels, one of images, one of both
    assert admit(replace(TWO_ROWS, outputs=[("pixels", ())]), max_response_bytes=limit).rows == 2
    both = f"images and pixels of 2 rows are {2 * (pixels + images)} bytes, and a response holds {limit}: ask for at"
    for outputs, message in (((), both), ((("images", ()),), "images of 2 rows are 576 bytes, and a response holds")):
        with pytest.raises(InvalidRequest, match=message):
            admit(replace(TWO_ROWS, outputs=outputs), max_response_bytes=limit)


def test_a_response_too_small_for_an_image_may_fit_its_pixels() -> None:
    with pytest.raises(InvalidRequest, match="ask for output 'pixels' only"):
        admit(TWO_ROWS, max_response_bytes=200)


@pytest.mark.parametrize(
    ("text", "version"), [("", 0), ("0", 0), ("3", 3), ("9" * 19, int("9" * 19)), ("stable", "stable")]
)
def test_versions_are_numbers_labels_or_empty(text: str, version: int | str) -> None:
    assert read_version(text) == version


@pytest.mark.parametrize(
    "text", ["_v1", "v 1", "v" * 65, "-1", "1.0", " 1", "\N{SUPERSCRIPT TWO}", "9" * 20, "1" * 999]
)
def test_a_version_that_is_neither_a_number_nor_a_label_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^model_version is '.{1,90}': send a number or a label, or leave it"):
        read_version(text)


names = st.sampled_from(["latents", "input_pixels", "images", "pixels", ""]) | st.text(max_size=300)
axes = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 4, 6, 2**31, 2**62, 2**63 - 1]) | st.integers(-(2**63), 2**63 - 1)
fields = st.sampled_from(["fp32_contents", "uint_contents", "int64_contents"])
numbers = st.lists(st.integers(0, 2**32 - 1) | st.sampled_from([0, 1]), max_size=12)
values = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=99)
parameters = st.dictionaries(st.sampled_from(["priority", "timeout", "sequence_id"]) | st.text(max_size=99), values)


@given(
    st.builds(
        SentInference,
        request_id=st.text(max_size=300),
        input_count=st.sampled_from([0, 1, 1, 1, 10**6]),
        name=names,
        datatype=st.sampled_from(["FP32", "UINT8"]) | st.text(max_size=300),
        shape=st.lists(axes, max_size=5).map(tuple),
        input_parameters=st.lists(st.text(max_size=300), max_size=2),
        typed=st.dictionaries(fields, numbers, max_size=2),
        raw=st.lists(st.binary(max_size=64), max_size=3),
        outputs=st.lists(st.tuples(names, st.just(())), max_size=3),
        parameters=parameters,
    ),
    st.sampled_from([GENERATOR, TRANSLATOR]),
)
def test_any_request_is_admitted_or_refused_in_one_short_line(sent: SentInference, card: Any) -> None:
    refusal = ""
    try:
        admitted = admit(sent, card)
    except InvalidRequest as error:
        refusal = str(error)
    if refusal:
        assert "\n" not in refusal
        assert 10 < len(refusal) < 400
        return
    assert admitted.inputs.shape == sent.shape == (admitted.rows, *card.input.row_shape)
    assert 1 <= admitted.rows <= CONFIG.max_request_rows
    assert set(admitted.outputs) <= {"images", "pixels"}


@given(st.integers(1, 8), st.data())
def test_finite_latents_of_the_right_size_are_always_admitted(rows: int, data: st.DataObject) -> None:
    numbers = data.draw(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=rows * 4, max_size=rows * 4)
    )
    sent = np.array(numbers, np.float32).reshape(rows, 4)
    raw = admit(replace(TWO_ROWS, shape=sent.shape, raw=[sent.tobytes()])).inputs
    typed = admit(replace(TWO_ROWS, shape=sent.shape, raw=[], typed={"fp32_contents": sent.ravel().tolist()})).inputs
    np.testing.assert_array_equal(raw, sent)
    np.testing.assert_array_equal(typed, sent)
