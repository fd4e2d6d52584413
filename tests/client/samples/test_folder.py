"""Folders of image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.errors import UnwritableOutput
from client.samples.record import SampleRecord
from tests.client.samples.sampling_source import (
    Source,
    pixels,
    sample,
    tree,
    uninterrupted,
)


def test_a_folder_holds_one_complete_picture_per_row(tmp_path: Path) -> None:
    sample(tmp_path / "out", Source())
    record = SampleRecord.from_json((tmp_path / "out" / "sample.json").read_bytes())
    assert record == SampleRecord("dcgan", 3, 7, 10, 0, 10, "png", 3, 2, 3)
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert [picture.name for picture in pictures] == [f"{row:05d}.png" for row in range(10)]
    for row, picture in enumerate(pictures):
        with Image.open(picture) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels(record, row))


@pytest.mark.parametrize("left", [".0123456789abcdef.tmp", ".ganclient-0123456789abcdef"])
def test_a_folder_resumes_at_the_first_missing_or_empty_file(tmp_path: Path, left: str) -> None:
    name = "out"
    path = tmp_path / "parts" / name
    path.parent.mkdir()
    sample(path, Source())
    (path / "00009.png").unlink()
    (path / "00006.png").write_bytes(b"")
    (path / left).write_bytes(b"half a pict")
    source = Source()
    sample(path, source)
    assert source.asked == [4]
    assert tree(path) == uninterrupted(tmp_path, name)


def test_a_folder_with_foreign_files_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00000.png").write_bytes(b"holiday")
    for overwrite in (False, True):
        with pytest.raises(UnwritableOutput, match=r"holds '00000\.png' and no sample\.json; name an empty or a new"):
            sample(tmp_path / "out", Source(), overwrite=overwrite)
    assert (tmp_path / "out" / "00000.png").read_bytes() == b"holiday"


def test_overwriting_a_folder_keeps_foreign_files(tmp_path: Path) -> None:
    sample(tmp_path / "out", Source())
    (tmp_path / "out" / "notes.txt").write_text("mine")
    sample(tmp_path / "out", Source(), overwrite=True, seed=8, count=2)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["00000.png", "00001.png", "notes.txt", "sample.json"]
