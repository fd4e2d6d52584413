"""The drawings of the first hour: the same each time, and as untidy as a trainer must be able to bear."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.drawings import LEFT_OUT, draw_face, draw_messy_folder
from trainer.data.datasets import load_images
from trainer.data.inspection import inspect
from trainer.progress import Progress

COUNT = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("drawings") / "my drawings"
    draw_messy_folder(place, COUNT)
    return place


def test_faces_differ_by_seed_and_not_otherwise() -> None:
    np.testing.assert_array_equal(np.asarray(draw_face(3)), np.asarray(draw_face(3)))
    assert (np.asarray(draw_face(3)) != np.asarray(draw_face(4))).mean() > 0.1


def test_the_folder_is_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    draw_messy_folder(tmp_path / "again", COUNT)
    contents = [
        {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (folder, tmp_path / "again")
    ]
    assert contents[0] == contents[1]


def test_the_folder_holds_formats_modes_sizes_and_subfolders_of_all_kinds(folder: Path) -> None:
    kinds: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".txt", ".db") and path.name != "broken.jpg":
            with Image.open(path) as picture:
                kinds.update([str(picture.format), picture.mode, f"square {picture.width == picture.height}"])
    assert {"PNG", "JPEG", "WEBP", "BMP", "RGB", "RGBA", "I;16", "square True", "square False"} == kinds.keys()
    assert len(inspect(folder).folders) == 5


def test_a_trainer_uses_every_drawing_and_leaves_out_the_rest(folder: Path) -> None:
    found = inspect(folder)
    assert sum(found.left_out.values()) == LEFT_OUT - 1  # a broken picture shows only when it is decoded
    data = load_images(f"folder:{folder}", data_root=folder, image_size=16, max_corrupt_images=3, progress=Progress())
    assert len(data) == COUNT
    assert [line.partition(":")[0] for line in data.skipped] == ["broken.jpg"]
