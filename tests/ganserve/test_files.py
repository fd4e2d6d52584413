from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ganserve.files import flush_to_disk, read_regular_file, replace_file, replacing


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
from collections.abc import Callable
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


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, link_to_a_device])
def test_only_regular_files_are_read(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "file")
    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        read_regular_file(tmp_path / "file", 100)


def test_a_file_is_read_through_links_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "link to link").symlink_to("link")
    assert read_regular_file(tmp_path / "link to link", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular_file(tmp_path / "file", 4)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, status_of = tmp_path / "file", os.fstat
    path.write_bytes(b"12345")

    def grow(descriptor: int) -> os.stat_result:
        status = status_of(descriptor)
        if stat.S_ISREG(status.st_mode) and path.stat().st_size == 5:
            with path.open("ab") as file:
                file.write(b"6")
        return status

    monkeypatch.setattr("ganserve.files.os.fstat", grow)
    with pytest.raises(OSError, match="it is still being written"):
        read_regular_file(path, 100)
