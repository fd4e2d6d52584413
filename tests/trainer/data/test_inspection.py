from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from trainer.data.inspection import MOST_HEADERS, inspect
from trainer.errors import UserError


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A folder of four pictures, one of them broken, and four files to leave out."""
    root = tmp_path / "my pictures"
    for name, size in {"a/1.png": (40, 30), "a/2.JPG": (64, 64), "b/deep/3.png": (64, 64)}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(root / name)
    for name in ("broken.png", "notes.txt", "README", ".thumbnails/1.png", "a/4.HEIC"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("no picture")
    return root


def test_pictures_folders_and_files_left_out_are_counted(messy: Path) -> None:
    inspection = inspect(messy)
    assert (inspection.name, inspection.pictures) == ("my pictures", 4)
    assert inspection.left_out == {"hidden": 1, ".txt": 1, "without a suffix": 1, ".heic": 1}
    assert inspection.folders == {"": 1, "a": 2, "b/deep": 1}
    assert sorted(inspection.sizes) == [(40, 30), (64, 64), (64, 64)]
    assert inspection.short_side == 64


def test_the_summary_names_sizes_crops_folders_and_reasons(messy: Path) -> None:
    first, cropped, folders = inspect(messy).lines()
    assert first == "my pictures: 4 pictures from 40x30 to 64x64 in 8 files"
    assert cropped == "not square: 33%; their centre is used"
    assert folders == "3 folders: 1 at the top, 2 in a, 1 in b/deep; taken as one set, without labels"
    assert inspect(messy).lines(domains=True)[-1] == "3 folders: 1 at the top, 2 in a, 1 in b/deep"


def test_pictures_are_not_cropped_to_their_own_shape(messy: Path) -> None:
    assert inspect(messy).lines((15, 20))[1] == "not of the shape 15x20: 67%; their centre is used"


def test_the_aspect_is_that_of_the_middle_picture(messy: Path) -> None:
    assert inspect(messy).aspect == 1
    assert replace(inspect(messy), sizes=[(30, 40), (64, 64), (30, 40)]).aspect == 0.75
    assert replace(inspect(messy), sizes=[]).aspect == 1


def test_a_zip_file_is_inspected_like_its_folder(messy: Path, tmp_path: Path) -> None:
    (tmp_path / "zipped").mkdir()
    with zipfile.ZipFile(tmp_path / "zipped" / "my pictures", "w") as archive:
        for path in messy.rglob("*"):
            archive.write(path, path.relative_to(messy))
    zipped, folder = inspect(tmp_path / "zipped" / "my pictures"), inspect(messy)
    assert sorted(zipped.sizes) == sorted(folder.sizes)
    assert zipped.left_out == folder.left_out
    assert zipped.lines()[0] == folder.lines()[0]
    assert zipped.folders == folder.folders


def test_domains_are_counted_at_any_depth(tmp_path: Path) -> None:
    for name in ("set/trainA/1.png", "set/trainA/x/2.png", "set/trainB/1.png", "set/testA/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    inspection = inspect(tmp_path)
    assert (inspection.largest_domain, inspection.smallest_domain) == (2, 1)


def test_sizes_are_those_of_a_bounded_number_of_pictures(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    for number in range(1, MOST_HEADERS + 5):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    assert len(inspect(tmp_path).sizes) == MOST_HEADERS


def test_what_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder or zip file"):
        inspect(tmp_path / "nowhere")


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "photo.heic").touch()
    with pytest.raises(UserError, match=r"no images found.*; left out: 1 x \.heic$"):
        inspect(tmp_path)
