from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ganserve.bundle import Card
from server.config import ServerConfig
from server.errors import DeadlinePassed, InvalidRequest
from server.limits import ImageFormat, check_rows, check_time, max_rows, read_format
from tests.server.tiny_cards import GENERATOR, TRANSLATOR, translator_of

CONFIG = ServerConfig(max_request_rows=8)
OUTPUT_BYTES = 3 * 8 * 12  # of one image of TRANSLATOR; 72 of one that goes in


@pytest.mark.parametrize("image_format", ImageFormat)
def test_every_format_is_known_by_its_name(image_format: ImageFormat) -> None:
    assert read_format(image_format.name, GENERATOR) is image_format


@pytest.mark.parametrize("name", ["7", "-1", "pixels", "UNSPECIFIED"])
def test_an_unknown_format_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"format {name} is unknown: use one of PIXELS, FLOAT32, PNG, JPEG"):
        read_format(name, GENERATOR)


@pytest.mark.parametrize("shape", [(2, 4, 6), (4, 4, 6), (1, 1, 65_501)])
def test_jpeg_is_refused_for_images_that_it_cannot_hold(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidRequest, match=r"format JPEG cannot hold the .*: ask for format PNG"):
        read_format("JPEG", translator_of(*shape))


@pytest.mark.parametrize("remaining_s", [0.0, -1.0])
def test_a_request_that_has_no_time_left_is_refused(remaining_s: float) -> None:
    with pytest.raises(DeadlinePassed):
        check_time(remaining_s)


@pytest.mark.parametrize("remaining_s", [None, 0.001])
def test_a_request_that_has_time_left_is_not(remaining_s: float | None) -> None:
    check_time(remaining_s)


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
def test_the_most_rows_follow_from_the_tightest_limit(card: Card, limits: dict[str, Any], rows: int) -> None:
    config = replace(CONFIG, **limits)
    assert max_rows(card, config) == rows
    check_rows("rows", rows, card, config, ImageFormat.PIXELS)
    with pytest.raises(InvalidRequest, match=f"at most {rows} "):
        check_rows("rows", rows + 1, card, config, ImageFormat.PIXELS)


def test_a_response_that_would_be_too_large_is_refused_with_the_count_that_fits() -> None:
    config = replace(CONFIG, max_response_bytes=5 * 72)
    check_rows("rows", 5, GENERATOR, config, ImageFormat.PIXELS)
    with pytest.raises(InvalidRequest, match=r"5 FLOAT32 images of 3x4x6 are 1440 bytes.* ask for at most 1 rows"):
        check_rows("rows", 5, GENERATOR, config, ImageFormat.FLOAT32)
    with pytest.raises(InvalidRequest, match="one FLOAT32 image is larger than a response may be"):
        check_rows("rows", 1, GENERATOR, replace(config, max_response_bytes=72), ImageFormat.FLOAT32)
