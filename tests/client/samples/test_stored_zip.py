"""Archives against zipfile, which shares no code with them."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.samples import stored_zip


def archive_of(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    for name, data in members.items():
        file.write(stored_zip.member_bytes(name, data))
    stored_zip.write_directory(file)
    return file.getvalue()


@given(st.dictionaries(st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8})?", fullmatch=True), st.binary(max_size=200)))
def test_zipfile_reads_back_every_member(members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(archive_of(members))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == members
        assert all(info.external_attr >> 16 == 0o100644 for info in archive.infolist())


def test_more_members_than_the_old_format_counts_are_all_listed() -> None:
    members = {f"{number:05d}": b"" for number in range(65_600)}
    with zipfile.ZipFile(io.BytesIO(archive_of(members))) as archive:
        assert archive.namelist() == list(members)


@pytest.mark.parametrize("order", ["large member first", "large member last"])
def test_sizes_and_offsets_beyond_4_gib_are_kept(tmp_path: Path, order: str) -> None:
    """In a file with holes, which takes no room on the disk."""
    size = (1 << 32) + 5
    path = tmp_path / "large.zip"
    with path.open("w+b") as file:
        if order == "large member last":
            file.write(stored_zip.member_bytes("small", b"words"))
        file.write(stored_zip.header("large", size, 0))
        file.seek(size, io.SEEK_CUR)
        if order == "large member first":
            file.write(stored_zip.member_bytes("small", b"words"))
        else:
            file.truncate()
        stored_zip.write_directory(file)
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("large").file_size == size
        assert archive.read("small") == b"words"
        with archive.open("large") as large:
            assert large.read(4) == bytes(4)


def test_the_same_members_make_the_same_bytes() -> None:
    assert archive_of({"a": b"1", "b": b"2"}) == archive_of({"a": b"1", "b": b"2"})


@given(st.binary(max_size=300), st.integers(0, 400))
def test_a_member_that_was_cut_off_anywhere_is_not_whole(data: bytes, cut: int) -> None:
    whole = stored_zip.member_bytes("name", data)
    file = io.BytesIO(whole[:cut])
    member = stored_zip.member_at(file, 0)
    assert (member is not None and stored_zip.is_whole(file, member)) == (cut >= len(whole))


@given(st.binary(max_size=100))
def test_any_bytes_are_read_as_a_member_or_as_none(data: bytes) -> None:
    file = io.BytesIO(data)
    member = stored_zip.member_at(file, 0)
    assert member is None or data.startswith(b"PK\x03\x04")


def test_a_checksum_is_that_of_zlib_and_none_beyond_the_end() -> None:
    file = cast(BinaryIO, io.BytesIO(b"0123456789"))
    assert stored_zip.crc_of(file, 2, 5) == zlib.crc32(b"23456")
    assert stored_zip.crc_of(file, 2, 9) is None


def test_a_directory_is_refused_for_what_is_no_member() -> None:
    file = io.BytesIO(stored_zip.member_bytes("a", b"1") + b"rubbish")
    with pytest.raises(ValueError, match="byte 32"):
        stored_zip.write_directory(file)
