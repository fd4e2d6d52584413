from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from server.errors import StartupError
from server.security import reloaded
from server.security.reloaded import Reloaded, read_file


class Source:
    """Two files whose contents must be equal, as a certificate and its key belong together."""

    def __init__(self, folder: Path) -> None:
        self.files = [folder / "a", folder / "b"]
        self.reads = 0
        self.write("old")
        self.value = Reloaded(self.files, self.read)

    def write(self, *texts: str) -> None:
        for file, text in zip(self.files, texts * 2, strict=False):
            file.write_text(text)

    def read(self) -> str:
        self.reads += 1
        first, second = (read_file("--flag", file, "a file").decode() for file in self.files)
        if first != second:
            raise StartupError("--flag: the files differ")
        return first


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def test_unchanged_files_are_read_once(source: Source) -> None:
    assert [source.value.get() for _ in range(3)] == ["old"] * 3
    assert source.reads == 1


def test_changed_files_are_read_again(source: Source) -> None:
    source.write("new!")
    assert [source.value.get() for _ in range(3)] == ["new!"] * 3
    assert source.reads == 2


def test_half_a_change_keeps_the_old_value_with_one_line_in_the_log(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source.files[0].write_text("new!")
    assert [source.value.get() for _ in range(3)] == ["old"] * 3
    assert caplog.messages == ["--flag: the files differ; what was read before stays in use"]
    source.files[1].write_text("new!")
    assert source.value.get() == "new!"


def test_a_deleted_file_keeps_the_old_value_until_it_is_back(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source.files[1].unlink()
    assert [source.value.get() for _ in range(2)] == ["old"] * 2
    assert len(caplog.messages) == 1
    assert "No such file" in caplog.text
    source.write("new!")
    assert source.value.get() == "new!"


def test_files_that_change_while_they_are_read_are_read_once_more(
    source: Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def read_during_a_change() -> str:
        value = source.read()
        source.write("newest")
        return value

    source.write("new!")
    with monkeypatch.context() as patch:
        patch.setattr(source.value, "_read", read_during_a_change)
        assert source.value.get() == "old"
    assert source.value.get() == "newest"
    assert len(caplog.messages) == 1


def test_a_file_that_is_replaced_as_kubernetes_does_it_is_read_again(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(name)
    link = tmp_path / "data"
    link.symlink_to("1")
    file = link / "token"
    value = Reloaded([file], lambda: read_file("--flag", file, "a file"))
    assert value.get() == b"1"
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").replace(link)
    assert value.get() == b"2"


def test_files_that_cannot_be_read_are_named_with_flag_reason_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloaded, "MAX_FILE_BYTES", 3)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_text("large")
    for name, reason in [
        ("missing", "cannot be read (No such file or directory)"),
        ("pipe", "cannot be read (not a regular file)"),
        (".", "cannot be read (Is a directory)"),
        ("large", "cannot be read (larger than 3 bytes)"),
    ]:
        with pytest.raises(StartupError) as raised:
            read_file("--flag", tmp_path / name, "a PEM file")
        assert str(raised.value) == f"--flag: {tmp_path / name} {reason}; name a PEM file"
