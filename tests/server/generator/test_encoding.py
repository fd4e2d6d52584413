from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from server.generator.encoding import ENCODERS, encode_jpeg, encode_png
from server.limits import ImageFormat
from tests.picture_files import noise


@pytest.mark.parametrize("image_format", ENCODERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_row_becomes_a_file_of_its_format_and_size(image_format: ImageFormat, channels: int) -> None:
    files = ENCODERS[image_format](noise(5, 4, 6, channels))
    images = [Image.open(io.BytesIO(file)) for file in files]
    assert [image.format for image in images] == [image_format.name] * 5
    assert {image.size for image in images} == {(6, 4)}
    assert {image.mode for image in images} == {{1: "L", 3: "RGB"}[channels]}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_is_lossless(channels: int) -> None:
    pixels = noise(3, 4, 6, channels)
    decoded = [np.asarray(Image.open(io.BytesIO(file))).reshape(4, 6, channels) for file in encode_png(pixels)]
    np.testing.assert_array_equal(np.stack(decoded), pixels)


def test_jpeg_keeps_the_colour_of_every_pixel_and_loses_little() -> None:
    # Neighbours of opposite colours: 4:2:0 would blend them.
    pixels = np.zeros((1, 16, 16, 3), np.uint8)
    pixels[..., ::2, 0], pixels[..., 1::2, 2] = 200, 200
    (file,) = encode_jpeg(pixels)
    decoded = np.asarray(Image.open(io.BytesIO(file))).astype(int)
    assert np.abs(decoded - pixels[0]).mean() < 4
