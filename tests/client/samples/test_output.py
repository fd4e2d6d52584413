"""Locks: several processes that sample to one place, a process killed at its start, and a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from client.errors import UnwritableOutput
from client.samples import output
from client.samples.output import SampleRows
from client.samples.record import RECORD_NAME, SampleRecord
from tests.client.samples.sampling_source import CHUNK_ROWS, OUTPUTS, Source, output_at, sample


def record_for(path: Path) -> SampleRecord:
    return SampleRecord("dcgan", 3, 7, 10, 0, 10, "pixels" if path.suffix == ".npz" else "png", 3, 2, 3)


@pytest.mark.parametrize("name", OUTPUTS)
def test_two_runs_cannot_write_to_the_same_place(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sample(path, Source(), stop_after=4)
    with output_at(path) as first:
        first.resume(record_for(path), CHUNK_ROWS)
        with pytest.raises(UnwritableOutput, match="another process is writing it"):
            sample(path, Source())
        with pytest.raises(UnwritableOutput, match="another process is writing it"):
            sample(path, Source(), overwrite=True, seed=8)


@pytest.mark.parametrize("name", OUTPUTS)
def test_if_two_runs_find_nothing_the_second_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with output_at(path) as first, output_at(path) as second:
        assert first.find(overwrite=False) is None
        assert second.find(overwrite=False) is None
        first.start(record_for(path))
        with pytest.raises(UnwritableOutput, match="another process is writing it"):
            second.start(record_for(path))
    assert sample(path, Source()).rows_done == 10


@pytest.mark.parametrize("name", OUTPUTS[1:])
def test_a_file_finished_between_opening_and_locking_is_not_written_to(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    sample(path, Source(), stop_after=4)
    lock = output._lock

    def finished_meanwhile(file: BinaryIO) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(output, "_lock", lock)
            sample(path, Source())
        return lock(file)

    monkeypatch.setattr(output, "_lock", finished_meanwhile)
    with output_at(path) as late, pytest.raises(UnwritableOutput, match="another process is writing it"):
        late.start(record_for(path))
    found = output_at(path).find(overwrite=False)
    assert found is not None
    assert found.complete


@pytest.mark.parametrize("name", OUTPUTS)
def test_files_of_a_run_killed_at_its_start_count_as_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    begun = path.with_name(path.name + ".partial") if path.suffix else path / RECORD_NAME
    begun.parent.mkdir(exist_ok=True)
    begun.touch()
    assert sample(path, Source()).rows_done == 10


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_finished_by_another_run_during_the_first_request_is_kept(tmp_path: Path, name: str) -> None:
    path = tmp_path / name

    class Slow(Source):
        def fetch(self, record: SampleRecord, first_row: int) -> Iterator[SampleRows]:
            sample(path, Source(), seed=8)
            return super().fetch(record, first_row)

    with pytest.raises(UnwritableOutput, match="another process is writing it"):
        sample(path, Slow())
    found = output_at(path).find(overwrite=False)
    assert found is not None
    assert (found.complete, found.record.seed) == (True, 8)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_resumes_only_the_output_it_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sample(path, Source(), stop_after=4)
    with output_at(path) as late:
        found = late.find(overwrite=False)
        assert found is not None
        sample(path, Source(), overwrite=True, seed=8, stop_after=4)
        with pytest.raises(UnwritableOutput, match="another process is writing it"):
            late.resume(found.record, CHUNK_ROWS)
        late.close()
        sample(path, Source(), seed=8)
        if path.suffix:
            with pytest.raises(UnwritableOutput, match="another process is writing it"):
                late.resume(found.record, CHUNK_ROWS)
    assert sample(path, Source(), seed=8).rows_before == 10


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_a_full_disk_is_a_one_line_error_and_the_next_run_resumes(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from client.errors import UnwritableOutput
from tests.client.samples.sampling_source import Source, sample

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit_bytes in (0, 20, 600):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    for name in sys.argv[1:]:
        try:
            sample(Path(f"{limit_bytes}", name), Source(), count=50)
        except UnwritableOutput as error:
            print(error)
"""
    names = ["out", "out.zip", "out.npz"]
    command = [sys.executable, "-c", script, *names]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stderr == ""
    full = [
        (limit_bytes, name) for limit_bytes in (0, 20, 600) for name in names if (limit_bytes, name) != (600, "out")
    ]
    lines = done.stdout.splitlines()
    assert len(lines) == len(full)  # every image of a folder fits into 600 bytes
    for line, (limit_bytes, name) in zip(lines, full, strict=True):
        assert line.startswith(f"{limit_bytes}/{name}: cannot be written (File too large)")
        assert sample(tmp_path / f"{limit_bytes}" / name, Source(), count=50).rows_done == 50
