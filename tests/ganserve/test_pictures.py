from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from ganserve import pictures
from ganserve.pictures import UnreadablePictureError, decode_picture, fit_picture
from tests.picture_files import TURNED_LEFT, encoded, many_chunks, many_scans, noise, orientation, png_that_claims

FORMATS = ("PNG", "JPEG", "TIFF", "GIF")


def decode(data: bytes, **limits: Any) -> NDArray[Any]:
    return np.asarray(decode_picture(data, **{"formats": FORMATS, "max_pixels": 10_000, **limits}))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_every_mode_is_decoded_to_gray_or_rgb(mode: str) -> None:
    image = Image.new("RGB", (20, 30), (200, 200, 200)).convert("L" if mode in {"I;16", "I", "F"} else mode)
    if mode == "I;16":
        image = Image.fromarray(np.full((30, 20), 200 * 257, dtype=np.uint16))
    if mode == "I":
        image = Image.fromarray(np.full((30, 20), 200 * 257, dtype=np.int32))
    if mode == "F":
        image = Image.fromarray(np.full((30, 20), 200 / 255, dtype=np.float32))
    kind = {"CMYK": "TIFF", "I": "TIFF", "F": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG")
    pixels = decode(encoded(image, kind))
    assert pixels.shape == ((30, 20) if mode in {"1", "L", "LA", "I;16", "I", "F"} else (30, 20, 3))
    assert abs(int(pixels.mean()) - 200) <= 20


@pytest.mark.parametrize(
    ("mode", "colour"), [("RGBA", (255, 0, 0, 0)), ("LA", (0, 0)), ("P", 0), ("L", 0), ("RGB", (0, 0, 0))]
)
def test_transparency_is_composited_onto_white(mode: str, colour: Any) -> None:
    transparent_colour = {} if mode.endswith("A") else {"transparency": colour}
    assert (decode(encoded(Image.new(mode, (4, 4), colour), **transparent_colour)) == 255).all()


def test_half_transparency_is_half_white() -> None:
    assert decode(encoded(Image.new("RGBA", (1, 1), (255, 0, 0, 128))))[0, 0].tolist() == [255, 127, 127]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_rotation_is_applied(kind: str) -> None:
    upright = np.zeros((8, 16), np.uint8)
    upright[:, 8:] = 255
    pixels = decode(encoded(np.rot90(upright), kind, exif=orientation(TURNED_LEFT)))
    np.testing.assert_allclose(pixels.astype(int), upright.astype(int), atol=2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_matches_pillow(kind: str, value: int) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(noise(6, 10, 3), kind, exif=orientation(value), **lossless)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(decode(data, formats=(kind,)), expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\x00\x00",
        b"Exif\x00\x00junk",
        b"Exif\x00\x00II*\x00\xff\xff\xff\xff",
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00",
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + bytes(range(250)) * 4,
    ],
)
def test_a_broken_exif_block_does_not_fail_a_picture(kind: str, exif: bytes) -> None:
    pixels = noise(8, 8, 3)
    np.testing.assert_array_equal(decode(encoded(pixels, kind, exif=exif)), decode(encoded(pixels, kind)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_tags_that_reference_the_same_bytes_many_times_are_never_read(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def fail(image: Image.Image) -> None:
        raise AssertionError("the EXIF block was parsed")

    exif = orientation(TURNED_LEFT)
    data = encoded(noise(4, 9), kind, exif=exif)
    monkeypatch.setattr(Image.Image, "getexif", fail)
    assert decode(data).shape == (9, 4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "I", "F"])
def test_conversion_in_strips_matches_conversion_at_once(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    image = Image.fromarray(noise(11, 7, 4))
    more: dict[str, Any] = {"transparency": 3} if mode == "P" else {}
    if mode in {"LA", "P"}:
        image = image.convert("RGB").convert("P") if mode == "P" else image.convert("LA")
    elif mode != "RGBA":
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray(noise(11, 7).astype(dtype) / 255 if mode == "F" else noise(11, 7).astype(dtype) * 257)
    data = encoded(image, "TIFF" if mode in {"I", "F"} else "PNG", **more)
    whole = decode(data)
    monkeypatch.setattr(pictures, "_STRIP_PIXELS", 20)
    np.testing.assert_array_equal(decode(data), whole)


def test_compositing_onto_white_matches_pillow() -> None:
    image = Image.fromarray(noise(9, 9, 4))
    page = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    np.testing.assert_array_equal(decode(encoded(image)), np.asarray(page))


def test_every_16_bit_level_is_rounded_to_the_nearest() -> None:
    levels = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    pixels = decode(encoded(levels), max_pixels=1 << 16)
    np.testing.assert_array_equal(pixels, np.rint(levels / 257).astype(np.uint8))


def test_out_of_memory_is_not_reported_as_an_unreadable_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(MemoryError):
        decode(encoded(noise(4, 4)))


@pytest.fixture
def never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if Pillow opens any file."""

    def fail(*arguments: object, **more: object) -> None:
        raise AssertionError("it was opened")

    monkeypatch.setattr(Image, "open", fail)


@pytest.mark.usefixtures("never_opened")
@pytest.mark.parametrize("data", [many_scans(101), many_chunks(1001)], ids=["JPEG", "PNG"])
def test_costly_files_are_refused_before_pillow_opens_them(data: bytes) -> None:
    with pytest.raises(UnreadablePictureError, match="more than"):
        decode(data)


def test_an_animation_is_read_as_its_first_frame() -> None:
    frames = [Image.new("L", (4, 4), level) for level in (10, 200)]
    assert (decode(encoded(frames[0], save_all=True, append_images=frames[1:])) == 10).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("cut", [0, 1, 10, 60, -300, -40])
def test_a_truncated_picture_is_refused(kind: str, cut: int) -> None:
    with pytest.raises(UnreadablePictureError):
        decode(encoded(noise(32, 32, 3), kind)[:cut])


@pytest.mark.parametrize("level", [200, 300, 40_000])
def test_the_scale_of_16_bit_gray_does_not_depend_on_the_picture(level: int) -> None:
    assert decode(encoded(np.full((4, 4), level, dtype=np.uint16)))[0, 0] == round(level / 257)


@pytest.mark.parametrize("value", [3.0, -0.5])
def test_floating_point_pixels_beyond_0_to_1_are_refused(value: float) -> None:
    with pytest.raises(UnreadablePictureError, match=r"outside 0\.\.1"):
        decode(encoded(np.full((4, 4), value, dtype=np.float32), "TIFF"))


def test_a_format_that_is_not_accepted_is_refused() -> None:
    with pytest.raises(UnreadablePictureError, match="not a picture"):
        decode(encoded(Image.new("L", (4, 4)), "GIF"), formats=("PNG", "JPEG"))


@pytest.fixture
def never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if the pixels of any picture are read."""

    def fail(image: ImageFile.ImageFile) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)


@pytest.mark.usefixtures("never_decoded")
@pytest.mark.parametrize("side", [101, 9_000, 50_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(UnreadablePictureError, match=r"too large|exceeds limit"):
        decode(png_that_claims(side, side))


@pytest.mark.usefixtures("never_decoded")
def test_a_size_can_be_refused_by_the_header() -> None:
    def refuse(width: int, height: int) -> None:
        raise UnreadablePictureError(f"{width} by {height}")

    with pytest.raises(UnreadablePictureError, match=r"^5 by 3$"):
        decode(encoded(noise(3, 5)), check_size=refuse)


@settings(max_examples=60)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]))
def test_junk_is_refused_and_raises_nothing_else(junk: bytes, prefix: bytes) -> None:
    with pytest.raises(UnreadablePictureError):
        decode(prefix + junk)


@settings(max_examples=60)
@given(st.integers(0, 5_000), st.integers(0, 255), st.sampled_from(["PNG", "JPEG"]))
def test_a_damaged_picture_is_read_or_refused(place: int, value: int, kind: str) -> None:
    data = bytearray(encoded(noise(16, 16, 3), kind))
    data[place % len(data)] = value
    try:
        pixels = decode(bytes(data))
    except UnreadablePictureError:
        return  # any other error fails the test
    assert pixels.dtype == np.uint8


def test_the_short_side_is_fitted_and_the_centre_kept() -> None:
    wide = np.zeros((16, 48), dtype=np.uint8)
    wide[:, 16:32] = 255
    fitted = fit_picture(Image.fromarray(wide), 16, 16)
    assert fitted.size == (16, 16)
    assert (np.asarray(fitted) == 255).mean() > 0.8


def test_a_picture_of_the_right_size_is_unchanged() -> None:
    pixels = noise(5, 7, 3)
    np.testing.assert_array_equal(np.asarray(fit_picture(Image.fromarray(pixels), 7, 5)), pixels)
