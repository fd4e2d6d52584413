from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganserve.pictures import UnreadablePictureError
from tests.picture_files import encoded, noise
from trainer.data import image_files
from trainer.data.datasets import ImageData, load_images
from trainer.data.image_files import decode_image
from trainer.errors import UserError
from trainer.progress import Progress

Load = Callable[..., ImageData]


@pytest.fixture
def load(quiet: Progress, tmp_path: Path) -> Load:
    def load_it(name: str, *, size: int = 16, max_corrupt: int = 0) -> ImageData:
        return load_images(name, data_root=tmp_path, image_size=size, max_corrupt_images=max_corrupt, progress=quiet)

    return load_it


@pytest.mark.parametrize("shape", [(20, 30), (30, 20, 3), (16, 16)])
def test_an_image_of_any_size_becomes_a_square_with_its_channels_last(shape: tuple[int, ...]) -> None:
    pixels = decode_image(encoded(noise(*shape)), 16)
    assert pixels.shape == (16, 16, 3 if len(shape) == 3 else 1)
    assert pixels.dtype == np.uint8


def test_a_format_that_runs_other_programs_is_refused() -> None:
    with pytest.raises(UnreadablePictureError, match="not a picture"):
        decode_image(encoded(Image.new("RGB", (16, 16)), "EPS"), 16)


def test_names_with_control_characters_or_lone_surrogates_are_shown_escaped(quiet: Progress) -> None:
    quiet.say("skipped \x1b[31mred\udcff.png")
    shown = quiet.console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in shown
    assert "red" in shown


def test_two_zip_members_with_the_same_name_are_both_read(tmp_path: Path, load: Load) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.png", encoded(Image.new("L", (8, 8), 10)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", encoded(Image.new("L", (8, 8), 200)))
    assert sorted(load(f"zip:{tmp_path / 'set.zip'}").images[:, 0, 0, 0].tolist()) == [10, 200]


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(UnreadablePictureError, match="9000x9000 is too large"):
        decode_image(encoded(Image.new("1", (9000, 9000))), 16)


def test_a_folder_is_searched_to_any_depth_and_other_files_are_ignored(tmp_path: Path, load: Load) -> None:
    (tmp_path / "set" / "deep").mkdir(parents=True)
    Image.new("L", (8, 8), 10).save(tmp_path / "set" / "a.png")
    Image.new("L", (40, 20), 20).save(tmp_path / "set" / "deep" / "b.JPG")
    (tmp_path / "set" / "labels.csv").write_text("a,1")
    (tmp_path / "set" / "._a.png").write_bytes(b"resource fork")
    data = load(f"folder:{tmp_path / 'set'}")
    assert data.images.shape == (2, 1, 16, 16)
    assert data.images.float().mean(dim=(1, 2, 3)).round().tolist() == [10, 20]


def test_one_colour_image_makes_all_images_rgb(tmp_path: Path, load: Load) -> None:
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
        ("folder:{}/empty", "no images found"),
        ("zip:{}/not.zip", "not a readable zip file"),
        ("folder:{}/corrupt", "no readable image"),
    ],
)
def test_a_source_without_images_is_a_clear_error(tmp_path: Path, load: Load, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "not.zip").write_text("hello")
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / "a.png").write_text("hello")
    with pytest.raises(UserError, match=f"--dataset .*{message}"):
        load(name.format(tmp_path), max_corrupt=5)
