"""Sampling into folders and archives, with interruptions, against runs without one."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from client.errors import GanClientError, ServerUnreachable
from client.samples.record import SampleRecord
from tests.client.samples.sampling_source import (
    CHUNK_ROWS,
    OUTPUTS,
    Source,
    output_at,
    pixels,
    sample,
    tree,
    uninterrupted,
)


def test_a_folder_holds_one_whole_picture_a_row(tmp_path: Path) -> None:
    sample(tmp_path / "out", Source())
    record = SampleRecord.from_json((tmp_path / "out" / "sample.json").read_bytes())
    assert record == SampleRecord("dcgan", 3, 7, 10, "png", 3, 2, 3)
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert [picture.name for picture in pictures] == [f"{row:05d}.png" for row in range(10)]
    for row, picture in enumerate(pictures):
        with Image.open(picture) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels(record, row))


def test_a_zip_holds_the_same_files(tmp_path: Path) -> None:
    sample(tmp_path / "out", Source())
    sample(tmp_path / "out.zip", Source())
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        members = {f"out/{name}": archive.read(name) for name in archive.namelist()}
    assert members == {name: data for name, data in tree(tmp_path / "out").items() if name.startswith("out/")}


def test_an_npz_holds_pixels_and_where_they_come_from(tmp_path: Path) -> None:
    sample(tmp_path / "out.npz", Source())
    record = SampleRecord("dcgan", 3, 7, 10, "pixels", 3, 2, 3)
    with zipfile.ZipFile(tmp_path / "out.npz") as archive:
        assert archive.testzip() is None
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        assert arrays["images"].dtype == np.uint8
        np.testing.assert_array_equal(arrays["images"], np.stack([pixels(record, row) for row in range(10)]))
        assert (str(arrays["model"]), int(arrays["version"]), int(arrays["seed"])) == ("dcgan", 3, 7)
        assert json.loads(str(arrays["sample"]))["count"] == 10
        assert [array.dtype.kind for array in arrays.values()] == ["U", "U", "i", "u", "u"]


def test_the_largest_seed_is_kept(tmp_path: Path) -> None:
    sample(tmp_path / "out.npz", Source(), seed=2**64 - 1)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        assert int(arrays["seed"]) == 2**64 - 1


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("stop_after", [1, 4, 8])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path: Path, name: str, stop_after: int) -> None:
    path = tmp_path / "parts" / name
    path.parent.mkdir()
    first = sample(path, Source(), stop_after=stop_after)
    assert first.rows_done < 10
    source = Source()
    second = sample(path, source)
    assert (second.rows_before, second.rows_done) == (first.rows_done, 10)
    assert source.asked == [first.rows_done]
    assert tree(path) == uninterrupted(tmp_path, name)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_whose_server_went_away_goes_on_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "parts" / name
    path.parent.mkdir()
    with pytest.raises(ServerUnreachable):
        sample(path, Source(fails_at=9))
    sample(path, Source())
    assert tree(path) == uninterrupted(tmp_path, name)


@pytest.mark.parametrize("name", OUTPUTS[1:])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(cut=st.floats(0, 1), rubbish=st.binary(max_size=40))
def test_an_archive_that_was_torn_anywhere_goes_on_to_the_same_bytes(
    tmp_path: Path, name: str, cut: float, rubbish: bytes
) -> None:
    path = tmp_path / "parts" / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    sample(path, Source(), stop_after=8)
    partial = path.with_name(path.name + ".partial")
    data = partial.read_bytes()
    with output_at(tmp_path / name) as fresh:  # what the file begins with is there before an image is
        fresh.start(SampleRecord("dcgan", 3, 7, 10, "pixels" if path.suffix == ".npz" else "png", 3, 2, 3))
    begin = (tmp_path / f"{name}.partial").stat().st_size
    kept = data[: begin + round(cut * (len(data) - begin))]
    partial.write_bytes(kept + (rubbish if path.suffix == ".zip" else b""))
    source = Source()
    sample(path, source)
    assert all(row % CHUNK_ROWS == 0 for row in source.asked)  # the same requests as without the interruption
    assert tree(path) == uninterrupted(tmp_path, name)


@pytest.mark.parametrize("name", OUTPUTS[1:])
def test_an_archive_torn_while_its_directory_was_written_is_completed_without_new_images(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "parts" / name
    path.parent.mkdir()
    path.with_name(f"{name}.partial").write_bytes(uninterrupted(tmp_path, name)[name][:-30])
    source = Source()
    sample(path, source)
    assert source.asked == []
    assert tree(path) == uninterrupted(tmp_path, name)


@pytest.mark.parametrize("name", OUTPUTS[:1])
def test_a_folder_goes_on_at_the_first_file_that_is_missing_or_empty(tmp_path: Path, name: str) -> None:
    path = tmp_path / "parts" / name
    path.parent.mkdir()
    sample(path, Source())
    (path / "00009.png").unlink()
    (path / "00006.png").write_bytes(b"")
    (path / ".ganclient-0123456789abcdef").write_bytes(b"half a pict")
    source = Source()
    sample(path, source)
    assert source.asked == [4]
    assert tree(path) == uninterrupted(tmp_path, name)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.zip"
    with output_at(path) as output:
        output.start(SampleRecord("dcgan", 3, 7, 10, "png", 3, 2, 3))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("client.samples.stored_zip.write_directory", full)
        with pytest.raises(GanClientError, match=r"out\.zip: cannot be written \(No space left on device\)"):
            output.finish()
