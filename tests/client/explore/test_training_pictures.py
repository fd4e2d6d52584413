from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.errors import InvalidRequest
from client.explore import training_pictures
from client.explore.training_pictures import TrainingPictures

LEVELS = (10, 20, 50, 90)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of one grey level each, one of them in a sub-folder, and files that are left out."""
    root = tmp_path / "pictures"
    (root / "more").mkdir(parents=True)
    for level in LEVELS:
        name = {50: "more/50.png", 90: "without suffix"}.get(level, f"{level}.png")
        Image.new("L", (8, 6), level).save(root / name, "PNG")
    (root / "broken.png").write_bytes(b"no picture")
    Image.new("L", (8, 6), 30).save(root / ".hidden.png")
    (root / "notes.txt").write_text("text")
    (root / "50.png").mkdir()
    return root


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_nearest_pictures_come_first_with_their_distances(folder: Path, kind: str) -> None:
    pictures = TrainingPictures(folder if kind == "folder" else zipped(folder))
    found = pictures.nearest(np.full((4, 4, 1), 48, np.uint8), 3)
    assert found.searched == 4
    assert found.images[:, 0, 0, 0].tolist() == [50, 20, 10]
    assert found.distances == (2.0, 28.0, 38.0)
    assert found.usual == 20  # of 10, 10, 30 and 40


def test_pictures_are_compared_in_the_size_and_colours_of_the_image(folder: Path) -> None:
    pictures = TrainingPictures(folder)
    for shape in ((4, 4, 1), (5, 3, 3)):
        found = pictures.nearest(np.full(shape, 90, np.uint8), 1)
        assert (found.images.shape[1:], found.distances) == (shape, (0.0,))
    with pytest.raises(InvalidRequest, match="images of 4 channels cannot be compared"):
        pictures.nearest(np.zeros((4, 4, 4), np.uint8), 1)


def test_a_single_picture_has_no_usual_distance(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 7).save(tmp_path / "one.png")
    found = TrainingPictures(tmp_path).nearest(np.zeros((4, 4, 1), np.uint8), 4)
    assert (found.distances, np.isnan(found.usual)) == ((7.0,), True)


def test_too_many_pictures_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_pictures, "_MAX_TOTAL_BYTES", 3 * 16)
    with pytest.raises(InvalidRequest, match="holds more than 3 pictures, the limit at this size"):
        TrainingPictures(folder).nearest(np.zeros((4, 4, 1), np.uint8), 1)


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_what_holds_no_pictures_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "data"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"^--dataset: .*(holds no picture|cannot be read)"):
        TrainingPictures(path)
