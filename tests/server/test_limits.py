from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ganserve.bundle import Card
from server.config import ServerConfig
from server.errors import InvalidRequest
from server.limits import ImageFormat, check_finite, contract_of, quote, show_shape
from tests.server.tiny_cards import GENERATOR, TRANSLATOR, translator_of

CONFIG = ServerConfig(max_request_rows=8)
OUTPUT_BYTES = 3 * 8 * 12  # of an output image of TRANSLATOR; an input image has 72


@pytest.mark.parametrize("image_format", ImageFormat)
def test_every_format_is_known_by_its_name(image_format: ImageFormat) -> None:
    assert contract_of(GENERATOR, CONFIG).read_format(image_format.name) is image_format


@pytest.mark.parametrize("name", ["7", "-1", "pixels", "UNSPECIFIED"])
def test_an_unknown_format_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"format {name} is unknown: use one of PIXELS, FLOAT32, PNG, JPEG"):
        contract_of(GENERATOR, CONFIG).read_format(name)


@pytest.mark.parametrize("shape", [(2, 4, 6), (4, 4, 6), (1, 1, 65_501)])
def test_jpeg_is_refused_for_images_that_it_cannot_hold(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidRequest, match=r"format JPEG cannot hold the .*: ask for format PNG"):
        contract_of(translator_of(*shape), CONFIG).read_format("JPEG")


@pytest.mark.parametrize(
    ("card", "limits", "rows"),
    [
        (GENERATOR, {"max_request_rows": 7}, 7),
        (GENERATOR, {"max_queue_rows": 6}, 6),
        (GENERATOR, {"max_response_bytes": 5 * 72 + 71}, 5),
        (GENERATOR, {"max_latent_bytes_per_row": 8}, 4),
        (GENERATOR, {"max_request_bytes": 1}, 8),
        (TRANSLATOR, {"max_request_rows": 7}, 7),
        (TRANSLATOR, {"max_queue_rows": 6}, 6),
        (TRANSLATOR, {"max_response_bytes": 6 * OUTPUT_BYTES - 1}, 5),
        (TRANSLATOR, {"max_request_bytes": 4 * 72 + 71}, 4),
        (TRANSLATOR, {"max_latent_bytes_per_row": 0}, 8),
    ],
)
def test_the_maximum_rows_follow_from_the_tightest_limit(card: Card, limits: dict[str, Any], rows: int) -> None:
    contract = contract_of(card, replace(CONFIG, **limits))
    assert contract.max_rows[ImageFormat.PIXELS] == rows
    contract.check_rows("rows", rows)
    with pytest.raises(InvalidRequest, match=f"at most {rows} "):
        contract.check_rows("rows", rows + 1)


def test_a_response_that_would_be_too_large_is_refused_with_the_count_that_fits() -> None:
    contract = contract_of(GENERATOR, replace(CONFIG, max_response_bytes=5 * 72))
    contract.check_rows("rows", 5, ImageFormat.PIXELS)
    with pytest.raises(InvalidRequest, match=r"5 FLOAT32 images of 3x4x6 are 1440 bytes.* ask for at most 1 row "):
        contract.check_rows("rows", 5, ImageFormat.FLOAT32)
    tight = contract_of(GENERATOR, replace(CONFIG, max_response_bytes=72))
    with pytest.raises(InvalidRequest, match="one FLOAT32 image is larger than a response may be"):
        tight.check_rows("rows", 1, ImageFormat.FLOAT32)


@pytest.mark.parametrize("card", [GENERATOR, TRANSLATOR], ids=["generator", "translator"])
def test_a_contract_names_the_tensors_of_the_card(card: Card) -> None:
    contract = contract_of(card, CONFIG)
    assert (contract.input.name, contract.input.row_shape) == (card.input.name, card.input.row_shape)
    assert contract.takes_images is (card is TRANSLATOR)
    height, width = card.height, card.width
    assert {
        name: (tensor.datatype, tensor.row_shape, tensor.row_bytes) for name, tensor in contract.outputs.items()
    } == {
        "images": ("FP32", (3, height, width), 12 * height * width),
        "pixels": ("UINT8", (height, width, 3), 3 * height * width),
    }


def test_latents_and_images_have_separate_byte_limits() -> None:
    config = replace(CONFIG, max_latent_bytes_per_row=100, max_request_bytes=5000)
    assert contract_of(GENERATOR, config).max_input_bytes == 800
    assert contract_of(TRANSLATOR, config).max_input_bytes == 5000


def test_a_nonfinite_value_is_refused_with_its_position() -> None:
    latents = np.zeros((2, 4), np.float32)
    check_finite(latents)
    latents[1, 2] = np.inf
    with pytest.raises(InvalidRequest, match=r"latents\[1, 2\] is inf: send finite values only"):
        check_finite(latents)


def test_untrusted_text_and_shapes_are_truncated_and_escaped() -> None:
    assert quote("a\nb") == "'a\\nb'"
    assert len(quote("x" * 10_000)) < 100
    assert show_shape((1, 2)) == "(1, 2)"
    assert show_shape((1,) * 1000) == "(1, 1, 1, 1, ...)"
