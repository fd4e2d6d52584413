"""Several processes that sample to one place, and one that is killed as it begins."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from client.errors import UnwritableOutput
from client.samples import output
from client.samples.record import RECORD_NAME, SampleRecord
from tests.client.sampling_source import CHUNK_ROWS, OUTPUTS, Source, output_at, sample


def record_for(path: Path) -> SampleRecord:
    return SampleRecord("dcgan", 3, 7, 10, "pixels" if path.suffix == ".npz" else "png", 3, 2, 3)


@pytest.mark.parametrize("name", OUTPUTS)
def test_two_runs_do_not_write_to_one_place(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sample(path, Source(), stop_after=4)
    with output_at(path) as first:
        first.resume(record_for(path), CHUNK_ROWS)
        with pytest.raises(UnwritableOutput, match="another process is writing it"):
            sample(path, Source())
        with pytest.raises(UnwritableOutput, match="another process is writing it"):
            sample(path, Source(), overwrite=True, seed=8)


@pytest.mark.parametrize("name", OUTPUTS)
def test_of_two_runs_that_both_find_nothing_the_second_is_kept_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with output_at(path) as first, output_at(path) as second:
        assert first.find(overwrite=False) is None
        assert second.find(overwrite=False) is None
        first.start(record_for(path))
        with pytest.raises(UnwritableOutput, match="another process is writing it"):
            second.start(record_for(path))
    assert sample(path, Source()).rows_done == 10


@pytest.mark.parametrize("name", OUTPUTS[1:])
def test_a_file_that_was_finished_between_opening_and_locking_it_is_not_written_to(
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
def test_what_a_run_that_was_killed_at_its_very_beginning_leaves_counts_as_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    begun = path.with_name(path.name + ".partial") if path.suffix else path / RECORD_NAME
    begun.parent.mkdir(exist_ok=True)
    begun.touch()
    assert sample(path, Source()).rows_done == 10
