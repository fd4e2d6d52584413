from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer import image_files
from trainer.data import ImageData, load_images
from trainer.errors import UserError
from trainer.image_files import _UnreadableImageError, decode_image
from trainer.progress import Progress

Load = Callable[..., ImageData]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def load(quiet: Progress, tmp_path: Path) -> Load:
    def load_it(name: str, *, size: int = 16, max_corrupt: int = 0) -> ImageData:
        return load_images(name, data_root=tmp_path, image_size=size, max_corrupt_images=max_corrupt, progress=quiet)

    return load_it


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
    pixels = decode_image(encoded(image, kind), 16)
    assert pixels.shape in {(16, 16, 1), (16, 16, 3)}
    assert abs(int(pixels.mean()) - 200) <= 20
    assert (pixels.shape[2] == 1) == (mode in {"1", "L", "LA", "I;16", "I", "F"})


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert (decode_image(encoded(clear), 16) == 255).all()


def test_the_short_side_is_fitted_and_the_centre_kept() -> None:
    wide = np.zeros((16, 48), dtype=np.uint8)
    wide[:, 16:32] = 255
    assert (decode_image(encoded(Image.fromarray(wide)), 16) == 255).mean() > 0.8


def test_exif_rotation_is_applied() -> None:
    image = Image.fromarray(np.repeat(np.array([[0] * 8 + [255] * 8], dtype=np.uint8), 16, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = decode_image(encoded(image, "PNG", exif=exif), 16)
    assert pixels[:, 0].mean() > 200
    assert pixels[:, -1].mean() < 50


@pytest.mark.parametrize("cut", [0, 10, 60, -300])
def test_a_truncated_image_is_refused(cut: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    with pytest.raises(_UnreadableImageError):
        decode_image(encoded(noise)[:cut], 16)


@pytest.mark.parametrize("level", [200, 300, 40_000])
def test_the_scale_of_16_bit_images_does_not_depend_on_the_image(level: int) -> None:
    image = Image.fromarray(np.full((16, 16), level, dtype=np.uint16))
    assert decode_image(encoded(image), 16)[0, 0, 0] == round(level / 257)


def test_floating_point_pixels_beyond_0_to_1_are_refused() -> None:
    image = Image.fromarray(np.full((16, 16), 3.0, dtype=np.float32))
    with pytest.raises(_UnreadableImageError, match=r"outside 0\.\.1"):
        decode_image(encoded(image, "TIFF"), 16)


def test_a_format_that_starts_other_programs_is_refused() -> None:
    with pytest.raises(_UnreadableImageError, match="cannot identify"):
        decode_image(encoded(Image.new("RGB", (16, 16)), "EPS"), 16)


def test_names_with_control_characters_or_lone_surrogates_are_shown_escaped(quiet: Progress) -> None:
    quiet.say("skipped \x1b[31mred\udcff.png")
    shown = quiet.console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in shown
    assert "red" in shown


def test_two_zip_members_of_one_name_are_both_read(tmp_path: Path, load: Load) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.png", encoded(Image.new("L", (8, 8), 10)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", encoded(Image.new("L", (8, 8), 200)))
    assert sorted(load(f"zip:{tmp_path / 'set.zip'}").images[:, 0, 0, 0].tolist()) == [10, 200]


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(_UnreadableImageError, match="9000x9000 is too large"):
        decode_image(encoded(Image.new("1", (9000, 9000))), 16)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_junk_is_refused_and_raises_nothing_else(junk: bytes) -> None:
    with pytest.raises(_UnreadableImageError):
        decode_image(junk, 16)


def test_a_folder_is_searched_to_any_depth_and_other_files_are_left_alone(tmp_path: Path, load: Load) -> None:
    (tmp_path / "set" / "deep").mkdir(parents=True)
    Image.new("L", (8, 8), 10).save(tmp_path / "set" / "a.png")
    Image.new("L", (40, 20), 20).save(tmp_path / "set" / "deep" / "b.JPG")
    (tmp_path / "set" / "labels.csv").write_text("a,1")
    (tmp_path / "set" / "._a.png").write_bytes(b"resource fork")
    data = load(f"folder:{tmp_path / 'set'}")
    assert data.images.shape == (2, 1, 16, 16)
    assert data.images.float().mean(dim=(1, 2, 3)).round().tolist() == [10, 20]


def test_one_colour_image_makes_the_whole_set_rgb(tmp_path: Path, load: Load) -> None:
    Image.new("L", (8, 8), 10).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "b.png")
    images = load(f"folder:{tmp_path}").images
    assert images[:, :, 0, 0].tolist() == [[10, 10, 10], [1, 2, 3]]
    assert images.is_contiguous()


def test_a_zip_gives_the_same_images_as_its_folder(tmp_path: Path, load: Load) -> None:
    (tmp_path / "set").mkdir()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for index in range(5):
            content = encoded(Image.new("RGB", (9, 9), (index, 50, 50)))
            (tmp_path / "set" / f"{index}.png").write_bytes(content)
            archive.writestr(f"inside/{index}.png", content)
        archive.writestr("__MACOSX/inside/0.png", b"junk")
    folder, zipped = load(f"folder:{tmp_path / 'set'}"), load(f"zip:{tmp_path / 'set.zip'}")
    assert torch.equal(folder.images, zipped.images)


def test_corrupt_files_are_skipped_by_name_up_to_the_limit(tmp_path: Path, load: Load) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "bad1.png").write_bytes(b"junk")
    (tmp_path / "bad2.jpg").write_bytes(b"")
    data = load(f"folder:{tmp_path}", max_corrupt=2)
    assert len(data) == 1
    assert [line.split(":")[0] for line in data.skipped] == ["bad1.png", "bad2.jpg"]
    with pytest.raises(UserError, match=r"more than 1 unreadable images.*--max-corrupt"):
        load(f"folder:{tmp_path}", max_corrupt=1)


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder:{}/absent", "no such folder"),
        ("zip:{}/absent.zip", "no such file"),
        ("folder:{}/empty", "no image in it"),
        ("zip:{}/not.zip", "not a readable zip file"),
        ("folder:{}/corrupt", "no readable image"),
    ],
)
def test_a_source_without_images_is_one_clear_error(tmp_path: Path, load: Load, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "not.zip").write_text("hello")
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / "a.png").write_text("hello")
    with pytest.raises(UserError, match=f"--dataset .*{message}"):
        load(name.format(tmp_path), max_corrupt=5)
