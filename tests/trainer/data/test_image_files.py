from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.picture_files import encoded, noise
from trainer.data.datasets import ImageData, load_images
from trainer.data.image_files import open_source
from trainer.errors import UserError
from trainer.progress import Progress

Load = Callable[..., ImageData]
PNG = encoded(noise(8, 8))


@pytest.fixture
def load(quiet: Progress, tmp_path: Path) -> Load:
    def load_it(name: str, *, size: int = 16, max_corrupt: int = 0) -> ImageData:
        return load_images(name, data_root=tmp_path, image_size=size, max_corrupt_images=max_corrupt, progress=quiet)

    return load_it


def names_in(path: Path) -> list[str]:
    with open_source(path) as source:
        return [file.path.as_posix() for file in source.files]


def left_out_of(path: Path) -> dict[str, int]:
    with open_source(path) as source:
        return dict(source.left_out)


def write(path: Path, content: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_two_zip_members_with_the_same_name_are_both_read(tmp_path: Path, load: Load) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.png", encoded(Image.new("L", (8, 8), 10)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", encoded(Image.new("L", (8, 8), 200)))
    assert sorted(load(f"zip:{tmp_path / 'set.zip'}").images[:, 0, 0, 0].tolist()) == [10, 200]


def test_a_folder_is_searched_to_any_depth_and_other_files_are_counted(tmp_path: Path, load: Load) -> None:
    (tmp_path / "set" / "deep").mkdir(parents=True)
    Image.new("L", (8, 8), 10).save(tmp_path / "set" / "a.png")
    Image.new("L", (40, 20), 20).save(tmp_path / "set" / "deep" / "b.JPG")
    (tmp_path / "set" / "labels.csv").write_text("a,1")
    (tmp_path / "set" / "._a.png").write_bytes(b"resource fork")
    data = load(f"folder:{tmp_path / 'set'}")
    assert data.images.shape == (2, 1, 16, 16)
    assert data.images.float().mean(dim=(1, 2, 3)).round().tolist() == [10, 20]
    assert data.left_out == {".csv": 1, "hidden": 1}


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
    assert zipped.left_out == {"hidden": 1}


def test_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "cats" / "deep" / "1.png")
    write(tmp_path / "elsewhere" / "2.png")
    root = tmp_path / "set"
    root.mkdir()
    (root / "cats").symlink_to(tmp_path / "elsewhere" / "cats")
    (root / "two.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    assert names_in(root) == ["cats/deep/1.png", "two.png"]
    (tmp_path / "link").symlink_to(root)
    assert names_in(tmp_path / "link") == ["cats/deep/1.png", "two.png"]


def test_loops_of_links_end_and_every_folder_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "set" / "b" / "1.png")
    (tmp_path / "set" / "a").mkdir()
    (tmp_path / "set" / "a" / "latest").symlink_to(tmp_path / "set" / "b")
    (tmp_path / "set" / "b" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "itself").symlink_to(tmp_path / "set" / "itself")
    assert names_in(tmp_path / "set") == ["b/1.png"]
    assert left_out_of(tmp_path / "set") == {"link to a folder that is read already": 2, "broken link": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_cannot_be_read_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "1.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> object:  # the tests may run as root, who may read every folder
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names_in(tmp_path) == ["1.png"]
    assert left_out_of(tmp_path) == {"broken link": 1, "neither file nor folder": 1, "unreadable folder": 1}


@pytest.mark.parametrize("zipped", [False, True])
def test_content_decides_about_files_with_other_suffixes(zipped: bool, tmp_path: Path) -> None:
    files = {"a": PNG, "b.dat": encoded(noise(8, 8), "WEBP"), "c.txt": b"\nno picture", "d": b"", "e.heic": b"\0" * 99}
    if zipped:
        with zipfile.ZipFile(tmp_path / "set", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        for name, content in files.items():
            write(tmp_path / "set" / name, content)
    assert names_in(tmp_path / "set") == ["a", "b.dat"]
    assert left_out_of(tmp_path / "set") == {".txt": 1, "without a suffix": 1, ".heic": 1}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_either_kind_of_name_opens_a_folder_or_a_zip_file(kind: str, tmp_path: Path, load: Load) -> None:
    write(tmp_path / "set" / "1.png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("1.png", PNG)
    for path, actual in ((tmp_path / "set", "folder"), (tmp_path / "set.zip", "zip")):
        data = load(f"{kind}:{path}")
        assert (data.name, len(data)) == (f"{actual}:{path}", 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder:{}/absent", "no such folder or zip file"),
        ("zip:{}/absent.zip", "no such folder or zip file"),
        ("folder:{}/empty", "no images found, by suffix or by content$"),
        ("folder:{}/others", r"no images found, by suffix or by content; left out: 2 x \.heic, 1 x hidden$"),
        ("zip:{}/not.zip", "neither a folder nor a readable zip file"),
        ("folder:{}/corrupt", "no readable image"),
    ],
)
def test_a_source_without_images_is_a_clear_error(tmp_path: Path, load: Load, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    for other in ("1.heic", "2.HEIC", ".DS_Store"):
        write(tmp_path / "others" / other, b"?")
    (tmp_path / "not.zip").write_text("hello")
    write(tmp_path / "corrupt" / "a.png", b"hello")
    with pytest.raises(UserError, match=f"--dataset .*{message}"):
        load(name.format(tmp_path), max_corrupt=5)
