from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganserve.bundle import Card
from server.config import ServerConfig
from server.errors import InvalidRequest
from server.generator.images import AdmittedImages, SentFiles, SentPixels, admit_images
from server.limits import ImageFormat, contract_of
from tests.picture_files import encoded, noise, png_that_claims
from tests.server.tiny_cards import GENERATOR, TRANSLATOR, translator_of

CONFIG = ServerConfig(max_request_rows=8)
PNG = encoded(noise(4, 6, 3))


def pixels_of(*shape: int, data: bytes = b"", dtype: str = "UINT8") -> SentPixels:
    return SentPixels(dtype, shape, lambda: data)


TWO_ROWS = pixels_of(2, 4, 6, 3, data=bytes(144))


def admit(
    source: Any, format_name: str = "PIXELS", *, resize: bool = False, card: Card = TRANSLATOR, **limits: Any
) -> AdmittedImages:
    return admit_images(source, format_name, contract_of(card, replace(CONFIG, **limits)), resize)


@pytest.mark.parametrize(("source", "rows"), [(TWO_ROWS, 2), (SentFiles([PNG, encoded(noise(9, 9), "JPEG")]), 2)])
def test_valid_images_are_admitted(source: Any, rows: int) -> None:
    admitted = admit(source, "JPEG")
    assert (admitted.rows, admitted.image_format, admitted.model) == (rows, ImageFormat.JPEG, "tiny-a2b")
    assert admitted.input == TRANSLATOR.input


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "neither pixels nor encoded is set: send pixels, or PNG or JPEG files"),
        (pixels_of(2, 4, 6, 3, dtype="FLOAT32"), "pixels.dtype is 'FLOAT32': send UINT8"),
        (pixels_of(2, 4, 6, 3, dtype="99"), "pixels.dtype is '99'"),
        (pixels_of(), r"pixels.shape is \(\): 'tiny-a2b' takes \(rows, 4, 6, 3\)"),
        (pixels_of(4, 6, 3), r"pixels.shape is \(4, 6, 3\)"),
        (pixels_of(1, 4, 6, 3, 1), r"pixels.shape is \(1, 4, 6, 3, \.\.\.\)"),
        (pixels_of(2, 4, 6, 1), r"pixels.shape is \(2, 4, 6, 1\): 'tiny-a2b' takes \(rows, 4, 6, 3\)"),
        (pixels_of(2, 3, 4, 6), r"pixels.shape is \(2, 3, 4, 6\)"),
        (pixels_of(2, 0, 6, 3), r"pixels.shape is \(2, 0, 6, 3\)"),
        (pixels_of(2, -4, -6, 3), r"pixels.shape is \(2, -4, -6, 3\)"),
        (pixels_of(0, 4, 6, 3), "pixels.shape: the number of rows is 0: ask for at least 1 row"),
        (pixels_of(-1, 4, 6, 3), "pixels.shape: the number of rows is -1"),
        (pixels_of(9, 4, 6, 3), "9 rows are too many for one request: ask for at most 8"),
        (pixels_of(2**62, 4, 6, 3), "too many"),
        (
            pixels_of(2, 4, 6, 3, data=bytes(143)),
            r"pixels.data has 143 bytes, but shape \(2, 4, 6, 3\) of uint8 needs 144",
        ),
        (pixels_of(2, 4, 6, 3, data=bytes(145)), "pixels.data has 145 bytes"),
        (SentFiles([]), "encoded.data: the number of files is 0: ask for at least 1 row"),
        (SentFiles([PNG] * 9), "9 rows are too many"),
        (SentFiles([PNG, b""]), r"encoded.data\[1\] is neither a PNG nor a JPEG file"),
        (SentFiles([PNG, b"GIF89a", PNG]), r"encoded.data\[1\] is neither a PNG nor a JPEG file"),
    ],
)
def test_invalid_requests_are_refused_with_field_and_remedy(source: Any, message: str, resize: bool) -> None:
    with pytest.raises(InvalidRequest, match=message) as error:
        admit(source, resize=resize)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("dtype", "shape", "limits"),
    [
        ("FLOAT32", (2, 4, 6, 3), {}),
        ("UINT8", (2, 4, 6, 1), {}),
        ("UINT8", (9, 4, 6, 3), {}),
        ("UINT8", (2, 4, 6, 3), {"max_request_bytes": 143}),
    ],
)
def test_pixels_are_copied_only_after_every_other_check(
    dtype: str, shape: tuple[int, ...], limits: dict[str, Any]
) -> None:
    def fail() -> bytes:
        raise AssertionError("the pixels were copied")

    with pytest.raises(InvalidRequest):
        admit(SentPixels(dtype, shape, fail), **limits)


def test_pixels_of_another_size_are_admitted_only_with_resize() -> None:
    source = pixels_of(2, 5, 7, 3, data=bytes(210))
    with pytest.raises(
        InvalidRequest,
        match=r"pixels.shape is \(2, 5, 7, 3\): 'tiny-a2b' takes \(rows, 4, 6, 3\); send .* that size, or set resize$",
    ):
        admit(source)
    assert admit(source, resize=True).rows == 2


def test_pixels_to_resize_have_their_own_limits() -> None:
    with pytest.raises(InvalidRequest, match="send images of at most 34 pixels"):
        admit(pixels_of(2, 5, 7, 3, data=bytes(210)), resize=True, max_image_pixels=34)
    with pytest.raises(InvalidRequest, match=r"are 210 bytes, and a request holds 209: send fewer rows at a time"):
        admit(pixels_of(2, 5, 7, 3, data=bytes(210)), resize=True, max_request_bytes=209)
    with pytest.raises(InvalidRequest, match=r"pixels.data has 209 bytes, but shape \(2, 5, 7, 3\) of uint8 needs 210"):
        admit(pixels_of(2, 5, 7, 3, data=bytes(209)), resize=True)
    for huge in [(1, 2**62, 2**62, 3), (1, 2**32, 1, 3)]:
        with pytest.raises(InvalidRequest, match="send images of at most 33554432 pixels"):
            admit(pixels_of(*huge), resize=True)


def test_pixels_and_files_are_limited_in_bytes() -> None:
    with pytest.raises(InvalidRequest, match="2 rows are too many for one request: ask for at most 1 at a time"):
        admit(TWO_ROWS, max_request_bytes=143)
    files = SentFiles([PNG] * 2)
    assert admit(files, max_request_bytes=2 * len(PNG)).rows == 2
    with pytest.raises(InvalidRequest, match=r"encoded.data has \d+ bytes, and a request holds .*: send fewer files"):
        admit(files, max_request_bytes=2 * len(PNG) - 1)


def test_too_many_files_for_one_request_are_refused() -> None:
    tiny_files = SentFiles([png_that_claims(1000, 1000)] * 3)
    with pytest.raises(InvalidRequest, match="3 rows are too many for one request: ask for at most 2 at a time"):
        admit(tiny_files, card=translator_of(3, 1000, 1000), max_request_bytes=8_000_000)


@pytest.mark.parametrize("channels", [2, 4])
def test_a_model_with_other_channels_takes_only_raw_pixels_of_its_size(channels: int) -> None:
    card = translator_of(channels, 1, 1)
    assert admit(pixels_of(1, 1, 1, channels, data=bytes(channels)), card=card).rows == 1
    with pytest.raises(InvalidRequest, match=f"takes {channels} channels: send pixels"):
        admit(SentFiles([PNG]), card=card, resize=True)
    with pytest.raises(InvalidRequest, match=f"images of {channels} channels cannot be resized"):
        admit(pixels_of(1, 2, 2, channels, data=bytes(4 * channels)), card=card, resize=True)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="format 7 is unknown"):
        admit(TWO_ROWS, "7")


def test_a_generator_names_the_right_method() -> None:
    with pytest.raises(InvalidRequest, match="'tiny' takes latents, not images: call Generate"):
        admit(TWO_ROWS, card=GENERATOR)


@given(
    dtype=st.sampled_from(["FLOAT32", "UINT8", "17"]),
    shape=st.lists(st.one_of(st.integers(-2, 7), st.integers(-(2**63), 2**63 - 1)), max_size=5),
    spare=st.integers(-1, 1),
    resize=st.booleans(),
)
def test_any_shape_is_admitted_correctly_or_refused(dtype: str, shape: list[int], spare: int, resize: bool) -> None:
    size = 1
    for side in shape:
        size *= side
    data = bytes(min(1000, max(0, size + spare)))
    try:
        admitted = admit(pixels_of(*shape, data=data, dtype=dtype), resize=resize)
    except InvalidRequest:
        return  # any other error fails the test
    assert (dtype, admitted.rows, len(data)) == ("UINT8", shape[0], size)
    assert resize or shape[1:] == [4, 6, 3]
