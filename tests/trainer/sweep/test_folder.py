"""The folder of a sweep: one process at a time, one sweep per folder, one-line errors for damaged files."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.trainer.sweep.conftest import WriteSpec, run, the_error
from trainer.errors import UserError
from trainer.sweep.folder import Ending, SweepFolder
from trainer.sweep.spec import Spec, read_spec


@pytest.fixture
def spec(spec_file: WriteSpec) -> Spec:
    return read_spec(spec_file())


def test_a_second_process_is_refused(spec_file: WriteSpec, tmp_path: Path) -> None:
    with SweepFolder(tmp_path / "out").locked():
        assert "another sweep is running in it" in the_error(run(spec_file(), "--out", tmp_path / "out"))


def test_temporary_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".0123456789abcdef.tmp").touch()
    with SweepFolder(tmp_path).locked():
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_holds_one_sweep_whose_seeds_and_device_may_change(spec: Spec, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    folder.claim(spec)
    more = msgspec.structs.replace(spec, seeds=[0, 1, 2], base=spec.base | {"device": "auto"})
    folder.claim(more)
    assert folder.read_spec() == more
    with pytest.raises(UserError, match="holds another sweep"):
        folder.claim(msgspec.structs.replace(spec, base=spec.base | {"width": 0.1}))
    assert folder.read_spec() == more


def test_pictures_of_a_sweep_may_move_but_not_become_a_built_in_data_set(spec: Spec, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    for dataset in ("folder:old", "zip:/new/place.zip", "plain"):
        folder.claim(msgspec.structs.replace(spec, base=spec.base | {"dataset": dataset}))
    with pytest.raises(UserError, match="holds another sweep"):
        folder.claim(msgspec.structs.replace(spec, base=spec.base | {"dataset": "digits"}))


def test_endings_are_read_back_as_recorded(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    assert folder.endings() == {}
    first = Ending(cell="lr 0.1", seed=0, outcome="finished")
    second = Ending(cell="lr 0.1", seed=1, outcome="diverged", text="step 3: a loss is\nNaN")
    folder.record(first)
    folder.record(second)
    assert folder.endings() == {("lr 0.1", 0): first, ("lr 0.1", 1): second}


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000], ids=["empty", "no spec", "deep"])
def test_a_damaged_spec_is_an_error(content: bytes, spec: Spec, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    with pytest.raises(UserError, match="not a sweep folder"):
        folder.read_spec()
    folder.spec_path.write_bytes(content)
    with pytest.raises(UserError, match="not a sweep folder"):
        folder.claim(spec)


@pytest.mark.parametrize(
    "content",
    [
        b'{"cell": "a", "seed": 0, "outcome": "fini',
        b'{"cell": "a", "seed": 0}\n',
        b"\xff\xfe\n",
        b"[]\n",
        b"[" * 100_000,
    ],
    ids=["cut", "no outcome", "no text", "no object", "deep"],
)
def test_damaged_trials_are_an_error_in_one_line_with_the_remedy(
    content: bytes, spec_file: WriteSpec, tmp_path: Path
) -> None:
    (tmp_path / "trials.jsonl").write_bytes(content)
    assert "trials.jsonl: damaged" in the_error(run(spec_file(), "--out", tmp_path))
