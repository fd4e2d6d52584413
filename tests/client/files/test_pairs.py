from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.errors import InvalidRequest, ServerFault
from client.files.pairs import MAX_PAIRS, PairPicture
from client.sdk.model_info import ModelInfo, models_from
from ganserve.pictures import fit_picture
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import encoded, translator


def info(**fields: Any) -> ModelInfo:
    [listed] = models_from(pb.ListModelsResponse(models=[translator(**fields)]))
    return listed


def random_image(seed: int, height: int = 4, width: int = 3, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def cell(picture: NDArray[np.uint8], line: int, column: int, height: int = 4, width: int = 3) -> NDArray[np.uint8]:
    top, left = 2 + line * (height + 2), 2 + column * (width + 2)
    return picture[top : top + height, left : left + width]


@pytest.mark.parametrize(("pairs", "pairs_a_line"), [(1, 1), (2, 1), (5, 2), (64, 6)])
def test_inputs_are_next_to_outputs_with_several_pairs_per_row(pairs: int, pairs_a_line: int) -> None:
    collected = PairPicture(info())
    for index in range(pairs):
        collected.add(encoded(random_image(index)), encoded(255 - random_image(index)))
    picture = np.asarray(collected.picture())
    assert picture.shape == (2 + -(-pairs // pairs_a_line) * 6, 2 + 2 * pairs_a_line * 5, 3)
    for index in range(pairs):
        line, column = divmod(index, pairs_a_line)
        np.testing.assert_array_equal(cell(picture, line, 2 * column), random_image(index))
        np.testing.assert_array_equal(cell(picture, line, 2 * column + 1), 255 - random_image(index))


def test_inputs_are_shown_as_the_model_sees_them() -> None:
    from PIL import Image

    before = random_image(0, 16, 9)
    collected = PairPicture(info(input_image=pb.ImageShape(channels=1, height=4, width=3)))
    collected.add(encoded(before), encoded(random_image(1)))
    seen = fit_picture(Image.fromarray(before), 3, 4).convert("L")
    shown = cell(np.asarray(collected.picture()), 0, 0)
    np.testing.assert_array_equal(shown, np.repeat(np.asarray(seen)[..., None], 3, axis=2))


def test_images_of_different_sizes_are_centred_in_cells_of_the_larger_size() -> None:
    collected = PairPicture(info(height=6, width=5))
    before, after = random_image(0), random_image(1, 6, 5)
    collected.add(encoded(before), encoded(after))
    picture = np.asarray(collected.picture())
    np.testing.assert_array_equal(cell(picture, 0, 1, 6, 5), after)
    np.testing.assert_array_equal(cell(picture, 0, 0, 6, 5)[1:5, 1:4], before)


def test_only_the_first_pairs_are_kept_and_decoded() -> None:
    collected = PairPicture(info())
    for _ in range(MAX_PAIRS):
        collected.add(encoded(random_image(0)), encoded(random_image(0)))
    collected.add(b"not even looked at", b"")
    assert len(collected) == MAX_PAIRS


def test_large_images_get_fewer_pairs_and_huge_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.files.pairs._MAX_PICTURE_PIXELS", 8 * 64 * 64)
    collected = PairPicture(info(height=64, width=64, input_image=pb.ImageShape(channels=3, height=64, width=64)))
    image = encoded(np.zeros((64, 64, 3), np.uint8))
    for _ in range(5):
        collected.add(image, image)
    assert len(collected) == 4
    with pytest.raises(InvalidRequest, match="--grid: images of 1048576x1048576 are too large"):
        PairPicture(info(height=1 << 20, width=1 << 20))


def test_an_input_that_only_the_server_can_decode_is_left_out() -> None:
    collected = PairPicture(info())
    collected.add(b"\x89PNG\r\n\x1a\n odd", encoded(random_image(0)))
    assert len(collected) == 0


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
        (encoded(random_image(0, 3, 4)), "an image of 4x3, not 3x4"),
        (encoded(random_image(0, 400, 400)), "cannot be decoded .400x400 is too large"),
    ],
)
def test_an_invalid_output_is_a_server_fault(after: bytes, message: str) -> None:
    with pytest.raises(ServerFault, match=message):
        PairPicture(info()).add(encoded(random_image(0)), after)
