from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganserve.bundle import LatentInput
from ganserve.latents import DISTRIBUTIONS, latents_from_seed
from server.config import ServerConfig
from server.errors import InvalidRequest
from server.generator.latents import SeededLatents, SentLatents, admit_latents, read_latents
from server.limits import ImageFormat, contract_of
from tests.server.tiny_cards import GENERATOR, TRANSLATOR

CONFIG = ServerConfig(max_request_rows=8)


def sent_latents(dtype: str, shape: tuple[int, ...], data: bytes) -> SentLatents:
    return SentLatents(dtype, shape, lambda: data)


TWO_ROWS = sent_latents("FLOAT32", (2, 4), bytes(32))


def admit_tiny(source: Any, format_name: str = "PIXELS") -> Any:
    return admit_latents(source, format_name, contract_of(GENERATOR, CONFIG))


def test_sent_latents_are_read_unchanged() -> None:
    values = np.arange(8, dtype="<f4").reshape(2, 4)
    admitted = admit_tiny(sent_latents("FLOAT32", (2, 4), values.tobytes()))
    assert (admitted.rows, admitted.image_format) == (2, ImageFormat.PIXELS)
    np.testing.assert_array_equal(read_latents(admitted), values)


@pytest.mark.parametrize(("dtype", "shape"), [("UINT8", (2, 4)), ("FLOAT32", (2, 5)), ("FLOAT32", (9, 4))])
def test_latents_are_copied_only_after_every_other_check(dtype: str, shape: tuple[int, ...]) -> None:
    def fail() -> bytes:
        raise AssertionError("the latents were copied")

    with pytest.raises(InvalidRequest):
        admit_tiny(SentLatents(dtype, shape, fail))


def test_seeded_latents_are_those_that_every_stage_draws() -> None:
    admitted = admit_tiny(SeededLatents(seed=2**64 - 1, count=5))
    np.testing.assert_array_equal(read_latents(admitted), latents_from_seed(2**64 - 1, 5, 4))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_seed_draws_from_the_distribution_on_the_card(distribution: Any) -> None:
    row_input = LatentInput(latent_dim=4, distribution=distribution)
    contract = contract_of(msgspec.structs.replace(GENERATOR, input=row_input), CONFIG)
    admitted = admit_latents(SeededLatents(seed=3, count=5), "PIXELS", contract)
    np.testing.assert_array_equal(read_latents(admitted), latents_from_seed(3, 5, 4, distribution))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "neither latents nor seeded is set"),
        (sent_latents("UINT8", (2, 4), bytes(8)), "latents.dtype is 'UINT8': send FLOAT32"),
        (sent_latents("99", (2, 4), bytes(8)), "latents.dtype is '99'"),
        (sent_latents("FLOAT32", (), bytes(32)), r"latents.shape is \(\): 'tiny' takes \(rows, 4\)"),
        (sent_latents("FLOAT32", (8,), bytes(32)), r"latents.shape is \(8\)"),
        (sent_latents("FLOAT32", (2, 5), bytes(40)), r"latents.shape is \(2, 5\)"),
        (sent_latents("FLOAT32", (1, 1, 1, 1, 1), b""), r"latents.shape is \(1, 1, 1, 1, \.\.\.\)"),
        (sent_latents("FLOAT32", (0, 4), b""), "latents.shape: the number of rows is 0"),
        (sent_latents("FLOAT32", (-1, 4), bytes(16)), "latents.shape: the number of rows is -1"),
        (sent_latents("FLOAT32", (2**63 - 1, 4), bytes(16)), "rows are too many for one request: ask for at most 8"),
        (sent_latents("FLOAT32", (2**62, 4), b""), "too many"),  # 2**62 * 4 * 4 is 0 in 64 bits
        (
            sent_latents("FLOAT32", (2, 4), bytes(31)),
            r"latents.data has 31 bytes, but shape \(2, 4\) of float32 needs 32",
        ),
        (sent_latents("FLOAT32", (2, 4), bytes(33)), "latents.data has 33 bytes"),
        (SeededLatents(0, 0), "seeded.count is 0: ask for at least 1 row"),
        (SeededLatents(0, 9), "9 rows are too many for one request: ask for at most 8 at a time"),
    ],
)
def test_invalid_requests_are_refused_with_field_and_remedy(source: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as error:
        admit_tiny(source)
    assert "\n" not in str(error.value)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="format 7 is unknown"):
        admit_tiny(TWO_ROWS, "7")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nonfinite_values_are_refused_with_their_position(value: float) -> None:
    source = sent_latents("FLOAT32", (2, 4), struct.pack("<8f", 0, 0, 0, 0, 0, value, 0, 0))
    with pytest.raises(InvalidRequest, match=r"latents\[1, 1\] is -?(nan|inf): send finite values only"):
        read_latents(admit_tiny(source))


def test_a_translator_names_the_right_method() -> None:
    with pytest.raises(InvalidRequest, match="'tiny-a2b' takes images, not latents: call Translate"):
        admit_latents(None, "PIXELS", contract_of(TRANSLATOR, CONFIG))


@given(
    dtype=st.sampled_from(["FLOAT32", "UINT8", "17"]),
    shape=st.lists(st.one_of(st.integers(-2, 9), st.integers(-(2**63), 2**63 - 1)), max_size=3),
    data=st.binary(max_size=200),
)
def test_any_latents_are_read_completely_or_refused(dtype: str, shape: list[int], data: bytes) -> None:
    try:
        latents = read_latents(admit_tiny(sent_latents(dtype, tuple(shape), data)))
    except InvalidRequest:
        return  # any other error fails the test
    assert list(latents.shape) == shape
    assert latents.tobytes() == data
