from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from ganserve.pictures import fit_picture
from server.config import ServerConfig
from server.errors import DeadlinePassed, InvalidRequest, QueueFull
from server.generator import image_reader
from server.generator.image_reader import ImageReader
from server.generator.images import AdmittedImages, SentFiles, SentPixels, admit_images
from server.limits import contract_of
from tests.picture_files import TURNED_LEFT, encoded, noise, orientation, png_that_claims
from tests.server.scheduling.held_run import FakeClock, settle, until
from tests.server.tiny_cards import translator_of

HEIGHT, WIDTH = 4, 6


@pytest.fixture
async def reader() -> AsyncIterator[ImageReader]:
    made = ImageReader(threads=2, max_waiting_rows=16)
    yield made
    await made.close()


def files(*data: bytes, resize: bool = False, channels: int = 3, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Any:
    return admit_images(SentFiles(data), "PIXELS", contract_of(translator_of(channels, *size), ServerConfig()), resize)


def pixels(array: NDArray[np.uint8], *, size: tuple[int, int] = (HEIGHT, WIDTH)) -> AdmittedImages:
    source = SentPixels("UINT8", array.shape, array.tobytes)
    return admit_images(source, "PIXELS", contract_of(translator_of(array.shape[3], *size), ServerConfig()), True)


async def refusal(reader: ImageReader, admitted: AdmittedImages) -> str:
    with pytest.raises(InvalidRequest) as error:
        await reader.read(admitted)
    assert "\n" not in str(error.value)
    return str(error.value)


async def test_pixels_of_the_right_size_are_unchanged(reader: ImageReader) -> None:
    sent = noise(3, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(await reader.read(pixels(sent)), sent)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(9, 9), (2, 50), (50, 3), (1, 1)])
async def test_pixels_and_files_of_another_size_are_fitted_in_the_same_way(
    reader: ImageReader, channels: int, size: tuple[int, int]
) -> None:
    sent = noise(2, *size, channels)
    pictures = [Image.fromarray(image.squeeze(2) if channels == 1 else image) for image in sent]
    fitted = [np.asarray(fit_picture(picture, WIDTH, HEIGHT)) for picture in pictures]
    expected = np.stack(fitted).reshape(2, HEIGHT, WIDTH, channels)
    np.testing.assert_array_equal(await reader.read(pixels(sent)), expected)
    sent_files = files(*map(encoded, pictures), resize=True, channels=channels)
    np.testing.assert_array_equal(await reader.read(sent_files), expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
async def test_files_are_decoded_to_their_pixels(reader: ImageReader, kind: str) -> None:
    sent = [encoded(noise(HEIGHT, WIDTH, 3, seed=seed), kind) for seed in range(3)]
    expected = [np.asarray(Image.open(io.BytesIO(data))) for data in sent]
    np.testing.assert_array_equal(await reader.read(files(*sent)), np.stack(expected))


async def test_gray_and_colour_are_converted_into_each_other(reader: ImageReader) -> None:
    gray = noise(HEIGHT, WIDTH)
    coloured = (await reader.read(files(encoded(gray))))[0]
    np.testing.assert_array_equal(coloured, np.stack([gray] * 3, axis=2))
    colour = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colour[..., 1] = 255
    assert (await reader.read(files(encoded(colour), channels=1)))[0].ravel().tolist() == [150] * 24  # of green, BT.601


async def test_palettes_and_transparency_are_composited_onto_white(reader: ImageReader) -> None:
    palette = Image.new("RGB", (WIDTH, HEIGHT), (255, 0, 0)).convert("P")
    clear = Image.new("RGBA", (WIDTH, HEIGHT), (255, 0, 0, 0))
    clear_palette = encoded(palette, transparency=palette.getpixel((0, 0)))
    rows = await reader.read(files(encoded(palette), encoded(clear), clear_palette))
    assert [row[0, 0].tolist() for row in rows] == [[255, 0, 0], [255, 255, 255], [255, 255, 255]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
async def test_exif_orientation_is_applied_before_the_size_check(reader: ImageReader, kind: str) -> None:
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:, 8:] = 255
    exif = orientation(TURNED_LEFT)
    (row,) = await reader.read(files(encoded(np.rot90(upright), kind, exif=exif), size=(8, 16)))
    np.testing.assert_allclose(row.astype(int), upright.astype(int), atol=2)
    message = await refusal(reader, files(encoded(upright, kind, exif=exif), size=(8, 16)))
    assert message.startswith("encoded.data[0] is 8x16 (width x height), and 'tiny-a2b' takes 16x8 (width x height)")
    message = await refusal(reader, files(encoded(np.rot90(upright), kind), size=(8, 16)))
    assert message.startswith("encoded.data[0] is 8x16 (width x height)")


@pytest.fixture
def never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if the pixels of any picture are read."""

    def fail(image: ImageFile.ImageFile) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)


@pytest.mark.usefixtures("never_decoded")
async def test_another_size_is_refused_by_the_header_with_the_remedy(reader: ImageReader) -> None:
    assert await refusal(reader, files(encoded(noise(5, 7, 3)))) == (
        "encoded.data[0] is 7x5 (width x height), and 'tiny-a2b' takes 6x4 (width x height):"
        " send images of that size, or set resize"
    )


@pytest.mark.usefixtures("never_decoded")
@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("sides", [(8193, 4096), (50_000, 50_000), (2**31 - 1, 2**31 - 1), (0, 5), (5, 0)])
async def test_a_bomb_is_refused_by_its_header(reader: ImageReader, sides: tuple[int, int], resize: bool) -> None:
    message = await refusal(reader, files(png_that_claims(*sides), resize=resize))
    assert message.startswith("encoded.data[0] cannot be read (")
    assert message.endswith("): send a complete PNG or JPEG file of at most 33554432 pixels")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("cut", [10, 60, -40])
async def test_a_bad_file_is_named_by_its_row(reader: ImageReader, kind: str, cut: int) -> None:
    good = encoded(noise(32, 32, 3), kind)
    message = await refusal(reader, files(good, good, good[:cut], good, size=(32, 32)))
    assert message.startswith("encoded.data[2] cannot be read (")
    assert " at 0x" not in message  # no address of a Python object


@pytest.mark.parametrize("width", [1 << 24, (1 << 24) - 1, 99_999])
async def test_an_image_one_pixel_high_is_fitted(reader: ImageReader, width: int) -> None:
    rows = await reader.read(pixels(np.full((1, 1, width, 1), 7, np.uint8), size=(64, 1)))
    assert rows.ravel().tolist() == [7] * 64


class HeldDecoder:
    """Replaces `read_row`; returns only when the test releases it."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.threads: set[str] = set()
        self._permits = threading.Semaphore(0)

    def __call__(self, admitted: AdmittedImages, row: int) -> NDArray[np.uint8]:
        self.started.append(row)
        self.threads.add(threading.current_thread().name)
        assert self._permits.acquire(timeout=20)
        return np.zeros(admitted.input.row_shape, np.uint8)

    def release(self, images: int) -> None:
        self._permits.release(images)


@pytest.fixture
def held_decoder(monkeypatch: pytest.MonkeyPatch) -> HeldDecoder:
    decoder = HeldDecoder()
    monkeypatch.setattr(image_reader, "read_row", decoder)
    return decoder


def some_files(count: int) -> AdmittedImages:
    admitted: AdmittedImages = files(*[encoded(noise(HEIGHT, WIDTH, 3))] * count)
    return admitted


async def test_each_request_decodes_one_image_at_a_time_and_the_reader_one_per_thread(
    reader: ImageReader, held_decoder: HeldDecoder
) -> None:
    first = asyncio.create_task(reader.read(some_files(3)))
    await until(lambda: held_decoder.started == [0])
    others = [asyncio.create_task(reader.read(some_files(1))) for _ in range(3)]
    await until(lambda: held_decoder.started == [0, 0])
    await settle()
    assert held_decoder.started == [0, 0]
    held_decoder.release(6)
    assert [len(rows) for rows in await asyncio.gather(first, *others)] == [3, 1, 1, 1]
    assert threading.current_thread().name not in held_decoder.threads
    assert len(held_decoder.threads) <= 2


async def test_a_passed_deadline_stops_reading_between_two_images(
    reader: ImageReader, held_decoder: HeldDecoder
) -> None:
    clock = FakeClock()
    with pytest.raises(DeadlinePassed):
        await reader.read(some_files(2), deadline=clock.now)
    assert held_decoder.started == []
    reading = asyncio.create_task(reader.read(some_files(3), deadline=clock.now + 1))
    await until(lambda: held_decoder.started == [0])
    await clock.advance(2)
    held_decoder.release(3)
    with pytest.raises(DeadlinePassed, match="before the images were read: allow more time, or send fewer"):
        await reading
    assert held_decoder.started == [0]


async def test_a_cancelled_request_stops_reading_between_two_images(
    reader: ImageReader, held_decoder: HeldDecoder
) -> None:
    reading = asyncio.create_task(reader.read(some_files(3)))
    await until(lambda: held_decoder.started == [0])
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    held_decoder.release(3)
    await reader.close()
    assert held_decoder.started == [0]


async def test_waiting_images_are_bounded(reader: ImageReader, held_decoder: HeldDecoder) -> None:
    reading = asyncio.create_task(reader.read(some_files(10)))
    await until(lambda: held_decoder.started == [0])
    with pytest.raises(QueueFull, match=r"\(10 of 16, 7 more do not fit\): try again after a pause"):
        await reader.read(some_files(7))
    held_decoder.release(100)
    await reading
    assert len(await reader.read(some_files(7))) == 7


async def test_close_does_not_wait_for_a_decoder_that_never_ends(
    monkeypatch: pytest.MonkeyPatch, held_decoder: HeldDecoder
) -> None:
    monkeypatch.setattr(image_reader, "_CLOSE_PATIENCE_S", 0.01)
    reader = ImageReader(threads=1, max_waiting_rows=16)
    reading = asyncio.create_task(reader.read(some_files(2)))
    await until(lambda: held_decoder.started == [0])
    reading.cancel()
    assert not await reader.close()
    monkeypatch.setattr(image_reader, "_CLOSE_PATIENCE_S", 20.0)
    held_decoder.release(1)
    assert await reader.close()
    assert held_decoder.started == [0]
