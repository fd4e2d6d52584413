from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ganserve.files import flush_to_disk, replace_file, replacing


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_a_part(path: Path) -> None:
    path.write_bytes(b"ne")
    raise ValueError("not bytes")


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old and longer")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_an_error_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="disk full"):
        replace_file(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_an_error_of_the_writer_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="not bytes"), replacing(path) as temporary:
        write_a_part(temporary)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_kill_between_write_and_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = """
import os, signal, sys
from pathlib import Path
from ganserve.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"new")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run([sys.executable, "-c", code, path], check=False, timeout=200)
    assert result.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_readers_never_see_a_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"ne")
        assert path.read_bytes() == b"old"
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127])
def test_a_name_may_have_the_maximum_length(tmp_path: Path, name: str) -> None:
    replace_file(tmp_path / name, b"new")
    assert names_in(tmp_path) == [name]


def test_files_and_folders_are_flushed_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path):
        flush_to_disk(path)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(flushed.pop())
