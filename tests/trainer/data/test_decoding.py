from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ganserve.pictures import UnreadablePictureError
from tests.picture_files import encoded, noise
from trainer.data import image_files
from trainer.data.datasets import ImageData, load_images
from trainer.data.decoding import decode_image
from trainer.errors import UserError
from trainer.progress import Progress

Load = Callable[..., ImageData]


@pytest.fixture
def load(quiet: Progress, tmp_path: Path) -> Load:
    def load_it(name: str, *, size: int | tuple[int, int] = 16, max_corrupt: int = 0) -> ImageData:
        return load_images(name, data_root=tmp_path, image_size=size, max_corrupt_images=max_corrupt, progress=quiet)

    return load_it


def said(progress: Progress) -> str:
    file = progress.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("shape", [(20, 30), (30, 20, 3), (16, 16)])
def test_an_image_of_any_size_becomes_one_of_the_wanted_size_with_its_channels_last(shape: tuple[int, ...]) -> None:
    for size in ((16, 16), (16, 24)):
        pixels = decode_image(encoded(noise(*shape)), size)
        assert pixels.shape == (*size, 3 if len(shape) == 3 else 1)
        assert pixels.dtype == np.uint8


def test_a_format_that_runs_other_programs_is_refused() -> None:
    with pytest.raises(UnreadablePictureError, match=r"^not a picture in a known format$"):
        decode_image(encoded(Image.new("RGB", (16, 16)), "EPS"), (16, 16))


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(UnreadablePictureError, match="9000x9000 is too large"):
        decode_image(encoded(Image.new("1", (9000, 9000))), (16, 16))


GRAY = noise(8, 8)
WITH_ALPHA = np.dstack([GRAY, noise(8, 8, seed=1)])
PALETTE = Image.fromarray(GRAY).convert("P", palette=Image.Palette.ADAPTIVE)


@pytest.mark.parametrize(
    "content",
    [
        encoded(GRAY),
        encoded(np.dstack([GRAY] * 3)),
        encoded(WITH_ALPHA),
        encoded(np.dstack([GRAY] * 3 + [WITH_ALPHA[:, :, 1]])),
        encoded(Image.fromarray(GRAY), transparency=7),
        encoded(PALETTE),
        encoded(GRAY.astype(np.uint16) * 257),
        encoded(np.dstack([GRAY] * 3), "JPEG"),
        encoded(Image.fromarray(GRAY).convert("CMYK"), "TIFF"),
    ],
    ids=["gray", "rgb", "alpha", "rgba", "transparent level", "palette", "16 bits", "jpeg", "cmyk"],
)
def test_a_picture_is_gray_by_its_pixels_whatever_its_mode(content: bytes) -> None:
    assert decode_image(content, (8, 8)).shape == (8, 8, 1)


def test_one_colour_image_makes_all_images_rgb_and_is_named(tmp_path: Path, load: Load, quiet: Progress) -> None:
    Image.new("L", (8, 8), 10).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "b.png")
    images = load(f"folder:{tmp_path}").images
    assert images[:, :, 0, 0].tolist() == [[10, 10, 10], [1, 2, 3]]
    assert images.is_contiguous()
    assert "3 channels (RGB): 1 of 2 pictures are in colour, such as b.png" in said(quiet)


def test_the_range_and_the_channels_are_shown(tmp_path: Path, load: Load, quiet: Progress) -> None:
    for level in (3, 250):
        Image.new("L", (8, 8), level).save(tmp_path / f"{level}.png")
    assert load(f"folder:{tmp_path}").pixel_range == (3, 250)
    assert "pixels from 3 to 250, of 0 to 255; 1 channel (gray)\n" in said(quiet)
    assert "warning" not in said(quiet)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (
            np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8),
            "no pixel is brighter than 16 of 255, so the images are nearly black",
        ),
        (np.full((8, 8), 31, np.uint8), "no pixel is brighter than 31"),
        (np.full((8, 8), 32, np.uint8), ""),
        (np.full((8, 8), 223, np.uint8), ""),
        (np.full((8, 8), 224, np.uint8), "no pixel is darker than 224 of 255, so the images are nearly white"),
        (np.dstack([noise(8, 8, 3), np.zeros((8, 8), np.uint8)]), "no pixel is darker than 255"),
    ],
)
def test_a_set_in_an_eighth_of_the_range_is_doubted(
    pixels: NDArray[Any], words: str, tmp_path: Path, load: Load, quiet: Progress
) -> None:
    (tmp_path / "a.png").write_bytes(encoded(pixels))
    load(f"folder:{tmp_path}", size=8)
    assert words in said(quiet)
    assert ("warning" in said(quiet)) == bool(words)


def test_corrupt_files_are_skipped_by_name_up_to_the_limit(tmp_path: Path, load: Load) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "bad1.png").write_bytes(b"junk")
    (tmp_path / "bad2.jpg").write_bytes(b"")
    data = load(f"folder:{tmp_path}", max_corrupt=2)
    assert len(data) == 1
    assert [line.split(":")[0] for line in data.skipped] == ["bad1.png", "bad2.jpg"]
    with pytest.raises(UserError, match=r"more than 1 unreadable images.*--max-corrupt"):
        load(f"folder:{tmp_path}", max_corrupt=1)


def test_names_with_control_characters_or_lone_surrogates_are_shown_escaped(quiet: Progress) -> None:
    quiet.say("skipped \x1b[31mred\udcff.png")
    assert "\x1b" not in said(quiet)
    assert "red" in said(quiet)


def test_a_file_too_large_to_be_an_image_is_not_read(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 1000)
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "huge.png").write_bytes(b"\0" * 1001)
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "good.png", "good.png")
        archive.write(tmp_path / "huge.png", "huge.png")
    for name in (f"folder:{tmp_path}", f"zip:{tmp_path / 'set.zip'}"):
        assert "huge.png: larger than" in load(name, max_corrupt=1).skipped[0]


def test_the_order_of_the_images_is_that_of_the_files(tmp_path: Path, load: Load) -> None:
    for number in range(40):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number:02d}.png")
    assert torch.equal(load(f"folder:{tmp_path}").images[:, 0, 0, 0], torch.arange(40, dtype=torch.uint8))
