from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from trainer.errors import RunFolderError, UserError
from trainer.runs.folder_lock import FolderLock
from trainer.runs.run_folder import RunFolder

BUSY = UserError("busy")
ROOT = Path(__file__).parents[3]
HOLDER = """
import sys
from pathlib import Path
from trainer.errors import UserError
from trainer.runs.folder_lock import FolderLock
with FolderLock(Path(sys.argv[1])).held(UserError("busy")):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_only_one_holds_a_folder_and_the_next_one_may_then(tmp_path: Path) -> None:
    with FolderLock(tmp_path).held(BUSY) as locked:
        assert locked
        with pytest.raises(UserError, match="busy"), FolderLock(tmp_path).held(BUSY):
            pytest.fail("both hold it")
    with FolderLock(tmp_path).held(BUSY):
        pass


def test_one_object_may_hold_it_twice(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with lock.held(BUSY):
        with lock.held(BUSY):
            pass
        with pytest.raises(UserError, match="busy"), FolderLock(tmp_path).held(BUSY):
            pytest.fail("both hold it")


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="busy"), FolderLock(tmp_path).held(BUSY):
            pytest.fail("both hold it")
    finally:
        holder.kill()
        holder.communicate(timeout=60)
    assert holder.returncode == -signal.SIGKILL
    with FolderLock(tmp_path).held(BUSY) as locked:
        assert locked


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_reported_and_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def acquire(_self: FileLock) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with FolderLock(tmp_path).held(BUSY) as locked, FolderLock(tmp_path).held(BUSY):
        assert not locked


def test_a_folder_that_is_not_writable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), FolderLock(tmp_path / "file").held(BUSY):
        pytest.fail("it holds nothing")


def test_a_run_in_use_is_refused_with_its_path_and_the_remedy(tmp_path: Path) -> None:
    expected = rf"^{tmp_path}: another trainer writes to this run; wait for it, or stop it and resume the run then$"
    with RunFolder(tmp_path).locked(), pytest.raises(RunFolderError, match=expected), RunFolder(tmp_path).locked():
        pytest.fail("both hold it")
