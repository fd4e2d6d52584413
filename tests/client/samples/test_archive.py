"""Archives: read back with zipfile and NumPy, truncated at every byte, and resumed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.errors import UnwritableOutput
from client.samples.record import SampleRecord
from tests.client.samples.sampling_source import (
    CHUNK_ROWS,
    OUTPUTS,
    Source,
    output_at,
    sample,
    tree,
    uninterrupted,
)


@pytest.mark.parametrize("name", OUTPUTS[1:])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(cut=st.floats(0, 1), rubbish=st.binary(max_size=40) | st.just(bytes(40)))
def test_an_archive_truncated_anywhere_resumes_to_the_same_files(
    tmp_path: Path, name: str, cut: float, rubbish: bytes
) -> None:
    path = tmp_path / "parts" / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    sample(path, Source(), stop_after=8)
    partial = path.with_name(path.name + ".partial")
    data = partial.read_bytes()
    with output_at(tmp_path / name) as fresh:  # the header is written before the first image
        fresh.start(SampleRecord("dcgan", 3, 7, 10, 0, 10, "pixels" if path.suffix == ".npz" else "png", 3, 2, 3))
    begin = (tmp_path / f"{name}.partial").stat().st_size
    kept = data[: begin + round(cut * (len(data) - begin))]
    partial.write_bytes(kept + rubbish)
    source = Source()
    sample(path, source)
    assert all(row % CHUNK_ROWS == 0 for row in source.asked)  # the same requests as without the interruption
    assert tree(path) == uninterrupted(tmp_path, name)


@pytest.mark.parametrize("name", OUTPUTS[1:])
def test_a_run_killed_while_building_the_archive_needs_no_new_images(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "parts" / name
    path.parent.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("client.samples.archive.flush_to_disk", _killed)
        with pytest.raises(KeyboardInterrupt):
            sample(path, Source())
    assert not path.exists()
    path.with_name(f"{name}.partial-archive").write_bytes(b"half an archive")
    source = Source()
    sample(path, source)
    assert source.asked == []
    assert tree(path) == uninterrupted(tmp_path, name)


def test_a_full_disk_while_building_the_archive_is_a_one_line_error_and_keeps_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.zip"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", full)
        with pytest.raises(UnwritableOutput, match=r"^.*out\.zip: cannot be written \(No space left on device\)"):
            sample(path, Source())
    assert list(tree(path)) == ["out.zip.partial"]
    source = Source()
    sample(path, source)
    assert source.asked == []


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", OUTPUTS[1:])
@pytest.mark.parametrize("content", [b"", b"my thesis", b"PK\x03\x04" + bytes(60)])
def test_a_foreign_file_is_overwritten_only_on_request(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnwritableOutput, match="did not write it"):
        sample(path, Source())
    assert path.read_bytes() == content
    sample(path, Source(), overwrite=True)
    assert sample(path, Source()).rows_before == 10
