from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.errors import UnwritableOutput
from client.files.images import check_output, save_file, save_image


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.tif", "a.PNG"])
def test_a_saved_image_reads_back_the_same_and_leaves_nothing_else(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (26, 26, 3), dtype=np.uint8)
    path = tmp_path / "new" / "folder" / name
    save_image(Image.fromarray(pixels), path)
    with Image.open(path) as read_back:
        np.testing.assert_array_equal(np.asarray(read_back), pixels)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"old")
    with pytest.raises(UnwritableOutput, match=r"a\.jpg: cannot be written \(.*RGBA"):
        save_image(Image.new("RGBA", (2, 2)), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "ä" * 125 + ".png", "x.png"])
def test_names_may_be_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    save_file(b"new", tmp_path / name)
    save_image(Image.new("L", (2, 2)), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.gan", r"a\.gan: has no known image extension; use one of \.png, \.jpg"),
        ("a", "has no known image extension"),
        (".png", "has no known image extension"),
        ("folder.png", "is a folder"),
        ("file/a.png", "file is not a folder"),
        ("file/deeper/a.png", "is not a folder"),
        ("x" * 300 + ".png", "File name too long"),
    ],
)
def test_unwritable_outputs_are_refused_up_front(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UnwritableOutput, match=message):
        check_output(tmp_path / name)
    with pytest.raises(UnwritableOutput):
        save_image(Image.new("L", (2, 2)), tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_checking_an_output_writes_nothing(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_write_permission_is_refused_up_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(UnwritableOutput, match="because you may not write to"):
        check_output(tmp_path / "a.png")
