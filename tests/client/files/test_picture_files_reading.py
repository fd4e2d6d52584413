from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.files import picture_files
from client.files.picture_files import read_picture
from ganserve.pictures import UnreadablePictureError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 3), dtype=np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_png_and_jpeg_files_are_read_as_they_are_whatever_their_name(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a.bmp"
    Image.fromarray(PIXELS).save(path, file_format)
    assert read_picture(str(path)) == path.read_bytes()


@pytest.mark.parametrize("file_format", ["WEBP", "BMP", "TIFF", "GIF"])
def test_other_formats_become_png(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a.png"
    image = Image.fromarray(PIXELS if file_format != "GIF" else PIXELS[..., 0])
    image.save(path, file_format, **({"lossless": True} if file_format == "WEBP" else {}))
    converted = Image.open(io.BytesIO(read_picture(str(path))), formats=("PNG",))
    np.testing.assert_array_equal(np.asarray(converted.convert(image.mode)), np.asarray(image))


def test_transparency_is_laid_on_white_as_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(path, lossless=True)
    assert Image.open(io.BytesIO(read_picture(str(path)))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is none of PNG, JPEG, WEBP, BMP, GIF, TIFF; convert it to PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is none of"),  # for which Pillow would start another program
        (b"BM" + bytes(60), "cannot be decoded|is none of"),
        (b"GIF89a" + bytes(20), "cannot be decoded|is none of"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UnreadablePictureError, match=message) as raised:
        read_picture(str(path))
    assert " at 0x" not in str(raised.value)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in [
        ("nowhere.png", r"cannot be read \(No such file or directory\)"),
        ("pipe.png", "is not a regular file"),
        ("a\0b.png", "cannot be read"),
        (".", "is not a regular file"),
    ]:
        with pytest.raises(UnreadablePictureError, match=message):
            read_picture(f"{tmp_path}/{name}")


def test_large_files_are_refused_without_reading_them_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    size = path.stat().st_size
    monkeypatch.setattr(picture_files, "MAX_FILE_BYTES", size - 1)
    with pytest.raises(UnreadablePictureError, match=r"is larger than .* MiB; make it smaller"):
        read_picture(str(path))
    monkeypatch.setattr(picture_files, "MAX_FILE_BYTES", size)
    assert len(read_picture(str(path))) == size
    monkeypatch.setattr(picture_files, "MAX_REQUEST_IMAGE_BYTES", size - 1)
    with pytest.raises(UnreadablePictureError, match=r"is too large to send: .* MiB is the most; make it smaller"):
        read_picture(str(path))


def test_a_picture_for_which_there_is_too_little_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise MemoryError

    path = tmp_path / "a.bmp"
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(picture_files, "decode_picture", too_large)
    with pytest.raises(UnreadablePictureError, match="too little memory"):
        read_picture(str(path))


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bmp"
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 11)
    with pytest.raises(UnreadablePictureError, match="3x4 is too large"):
        read_picture(str(path))
