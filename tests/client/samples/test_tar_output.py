"""Tar archives, read back with tarfile."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from client.samples.record import SampleRecord
from tests.client.samples.sampling_source import Source, file_of, sample


def test_a_tar_has_an_image_and_its_origin_per_row(tmp_path: Path) -> None:
    sample(tmp_path / "out.tar", Source(), rows=range(2, 9))
    record = SampleRecord("dcgan", 3, 7, 10, 2, 9, "png", 3, 2, 3)
    with tarfile.open(tmp_path / "out.tar") as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert list(files) == [f"{row:05d}.{suffix}" for row in range(2, 9) for suffix in ("png", "json")]
    for row in range(2, 9):
        assert files[f"{row:05d}.png"] == file_of(record, row)
        assert json.loads(files[f"{row:05d}.json"]) == {"model": "dcgan", "version": 3, "seed": 7, "row": row}
