from __future__ import annotations

import io

import pytest
from PIL import Image

from ganserve.picture_formats import is_picture, picture_formats, picture_suffixes
from tests.picture_files import encoded, noise
from trainer.data.decoding import decode_image

Image.init()
WRITTEN = sorted(set(picture_formats()) & Image.SAVE.keys() - {"XBM", "MSP"})
USUAL = {"PNG": ".png", "JPEG": ".jfif", "AVIF": ".avif", "JPEG2000": ".jp2", "TIFF": ".tif", "TGA": ".tga"}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_that_pillow_writes_is_read(name: str) -> None:
    kind = "RGBA" if name == "BLP" else "RGB"
    picture = Image.fromarray(noise(32, 32, 3)).convert("P" if name in {"BLP", "GIF"} else kind)
    if name == "SPIDER":
        picture = picture.convert("F")
    assert decode_image(encoded(picture, name), (32, 32)).shape == (32, 32, 3)


@pytest.mark.parametrize(("name", "suffix"), USUAL.items())
def test_the_usual_suffixes_are_known(name: str, suffix: str) -> None:
    assert name in picture_formats()
    assert suffix in picture_suffixes()


@pytest.mark.parametrize("name", ["EPS", "WMF", "MPEG", "HDF5"])
def test_formats_that_pillow_does_not_decode_by_itself_are_left_out(name: str) -> None:
    assert name not in picture_formats()
    assert {".eps", ".wmf", ".mpg", ".h5", ".txt", ".svg", ".heic", ".pdf", ".db"}.isdisjoint(picture_suffixes())


@pytest.mark.parametrize("content", [b"", b"text", b"\nnew line first", b"P.S.", b"II*\0 no TIFF", b"\0" * 64])
def test_other_content_is_no_picture(content: bytes) -> None:
    assert not is_picture(io.BytesIO(content))


def test_a_picture_that_is_too_large_is_still_one() -> None:
    assert is_picture(io.BytesIO(encoded(Image.new("1", (20_000, 20_000)))))
