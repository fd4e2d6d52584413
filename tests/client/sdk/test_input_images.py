from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import pytest
from PIL import Image

from client.errors import InvalidRequest
from client.sdk.input_images import MAX_REQUEST_IMAGE_BYTES, checked_images, row_bytes
from tests.client.fake_server import encoded

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 3), dtype=np.uint8)


def sent(image: object) -> Image.Image:
    """A PIL image as the server receives it."""
    [file] = checked_images([image])  # type: ignore[list-item]  # some are wrong on purpose
    assert isinstance(file, bytes)
    return Image.open(io.BytesIO(file), formats=("PNG",))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_files_are_sent_as_they_are(file_format: str, kind: type) -> None:
    file = encoded(PIXELS, file_format)
    assert list(checked_images([kind(file)])) == [file]


def test_arrays_are_split_into_rows() -> None:
    images = np.stack([PIXELS, 255 - PIXELS])
    rows = list(checked_images(images))
    np.testing.assert_array_equal(np.stack([row for row in rows if isinstance(row, np.ndarray)]), images)
    assert [row_bytes(row) for row in rows] == [36, 36]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pil_images_are_sent_losslessly(mode: str) -> None:
    image = Image.new("I;16", (3, 4), 40000) if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
    np.testing.assert_array_equal(np.asarray(sent(image).convert(mode)), np.asarray(image))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_pil_images_of_modes_unknown_to_png_are_sent_as_rgb(mode: str) -> None:
    image = Image.new("RGB", (3, 4), (255, 0, 0))
    image = Image.new("LAB", (3, 4)) if mode == "LAB" else image.convert(mode)
    assert sent(image).mode == "RGB"


def test_pil_images_are_rotated_by_their_exif_orientation() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(PIXELS).save(file, "JPEG", exif=exif)
    assert sent(Image.open(file)).size == (4, 3)


@pytest.mark.parametrize("images", [b"\x89PNG\r\n\x1a\n", "a.png", Image.new("L", (1, 1)), None, 3])
def test_a_single_image_is_refused_with_the_remedy(images: Iterable[bytes]) -> None:
    with pytest.raises(
        InvalidRequest, match=r"images: must be a uint8 array, or a list .* put a single one into a list"
    ):
        checked_images(images)


@pytest.mark.parametrize(
    "array",
    [
        PIXELS,
        PIXELS[None].astype(np.float32),
        np.zeros((0, 4, 3, 3), np.uint8),
        np.zeros((1, 4, 0, 3), np.uint8),
        np.zeros((1, 3, 4, 5), np.uint8),
    ],
)
def test_invalid_arrays_are_refused_up_front(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with pytest.raises(InvalidRequest, match=r"images: an array must be uint8 of shape \(rows, height, width, channe"):
        checked_images(array)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"GIF89a", r"images\[1\]: is neither a PNG nor a JPEG file"),
        (b"", r"images\[1\]: is neither a PNG nor a JPEG file"),
        ("a.png", r"images\[1\]: must be a PNG or JPEG file .* not str; read files first"),
        (PIXELS, r"images\[1\]: must be .* not ndarray;.* stack arrays"),
        (Image.new("F", (2, 2)), r"images\[1\]: cannot be sent as PNG \(.*convert it to RGB"),
        (b"\xff\xd8\xff" + bytes(MAX_REQUEST_IMAGE_BYTES), r"images\[1\]: an image of 32505859 bytes is too large"),
    ],
)
def test_a_bad_row_is_named_when_it_is_reached(bad: object, message: str) -> None:
    rows = iter(checked_images([encoded(PIXELS), bad]))  # type: ignore[list-item]  # wrong on purpose
    next(rows)
    with pytest.raises(InvalidRequest, match=message):
        next(rows)


def test_a_row_too_large_for_a_request_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="images: an image of 36000000 bytes is too large"):
        checked_images(np.broadcast_to(np.uint8(0), (1, 4000, 3000, 3)))


def test_a_truncated_pil_image_is_named() -> None:
    image = Image.open(io.BytesIO(encoded(np.resize(PIXELS, (64, 64, 3)))[:-200]))
    with pytest.raises(InvalidRequest, match=r"images\[0\]: cannot be sent as PNG"):
        sent(image)
