"""Parquet files, read back with pyarrow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from client.errors import UnwritableOutput
from client.samples import parquet_output
from client.samples.record import SampleRecord
from tests.client.samples.sampling_source import Source, file_of, sample


@pytest.mark.parametrize("rows_per_group", [3, 1000])
def test_a_parquet_file_has_the_images_and_their_rows(
    tmp_path: Path, rows_per_group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_output, "_ROWS_PER_GROUP", rows_per_group)
    sample(tmp_path / "out.parquet", Source(), rows=range(2, 9))
    record = SampleRecord("dcgan", 3, 7, 10, 2, 9, "png", 3, 2, 3)
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.column("row").to_pylist() == list(range(2, 9))
    images = [{"bytes": file_of(record, row), "path": f"{row:05d}.png"} for row in range(2, 9)]
    assert table.column("image").to_pylist() == images


def test_the_schema_says_that_the_column_holds_images(tmp_path: Path) -> None:
    sample(tmp_path / "out.parquet", Source())
    metadata = pyarrow.parquet.read_metadata(tmp_path / "out.parquet").metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}  # by which Hugging Face's datasets decodes it


def test_without_pyarrow_the_error_names_the_extra_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UnwritableOutput, match=r"needs pyarrow; pip install '\.\[parquet\]' in a checkout, or write a"):
        sample(tmp_path / "out.parquet", Source())
    assert list(tmp_path.iterdir()) == []
