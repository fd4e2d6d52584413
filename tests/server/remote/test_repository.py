from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganserve.bundle import BundleError, check_name
from server.remote.errors import NotThere, RemoteError, RemoteUnavailable
from server.remote.repository import RemoteRepository

fsspec = pytest.importorskip("fsspec")
LS = "fsspec.implementations.memory.MemoryFileSystem.ls"
OPEN = "fsspec.implementations.memory.MemoryFileSystem.open"


@pytest.fixture
def remote() -> Iterator[RemoteRepository]:
    """A repository in the memory of this process, with files that are none of a model beside it."""
    files = fsspec.filesystem("memory")
    for path in (
        "tiny/1/card.json",
        "tiny/12/card.json",
        "tiny/012/card.json",
        "tiny/draft/card.json",
        "tiny/3",
        "tiny/config.pbtxt",
        "other/1/card.json",
        ".git/1/card.json",
        "a b/1/card.json",
        "README.md",
    ):
        files.pipe(f"/bucket/models/{path}", path.encode())
    yield RemoteRepository("memory://bucket/models/")
    files.rm("/bucket", recursive=True)


def test_it_lists_models_and_versions_and_nothing_else(remote: RemoteRepository) -> None:
    assert remote.models() == ["other", "tiny"]
    assert remote.versions("tiny") == ([1, 12], True)
    assert remote.versions("other") == ([1], False)


def test_it_copies_files_and_tells_how_far_it_is(remote: RemoteRepository, tmp_path: Path) -> None:
    heard: list[tuple[int, int | None]] = []
    remote.download("tiny/1/card.json", tmp_path / "copy", 100, lambda *part: heard.append(part))
    assert (tmp_path / "copy").read_bytes() == b"tiny/1/card.json"
    assert heard[-1] == (16, 16)


def test_it_reads_small_files_and_leaves_no_copy(remote: RemoteRepository, tmp_path: Path) -> None:
    assert remote.read("tiny/1/card.json", tmp_path, 16) == b"tiny/1/card.json"
    with pytest.raises(BundleError, match=r"^memory://bucket/models/tiny/1/card.json: larger than 15 bytes"):
        remote.read("tiny/1/card.json", tmp_path, 15)
    assert not list(tmp_path.iterdir())


def test_it_knows_which_files_there_are(remote: RemoteRepository) -> None:
    assert remote.has("tiny/1/card.json")
    assert not remote.has("tiny/2/card.json")
    assert not remote.has("tiny/1")


def test_it_sees_what_is_new_after_a_refresh(remote: RemoteRepository) -> None:
    assert remote.models() == ["other", "tiny"]
    fsspec.filesystem("memory").pipe("/bucket/models/new/1/card.json", b"")
    remote.refresh()
    assert remote.models() == ["new", "other", "tiny"]


def test_a_folder_in_place_of_a_file_is_an_error(remote: RemoteRepository, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^memory://bucket/models/tiny/1: is a folder, not a file"):
        remote.download("tiny/1", tmp_path / "copy", 100)


@pytest.mark.parametrize("url", ["memory://nothing/models", "file:///nowhere/models"])
def test_what_is_not_there_is_named(url: str, tmp_path: Path) -> None:
    remote = RemoteRepository(url)
    with pytest.raises(NotThere, match=rf"^{url}: there is no such bucket, folder or file"):
        remote.models()
    with pytest.raises(NotThere, match=rf"^{url}/tiny/1/card.json: there is no such bucket"):
        remote.read("tiny/1/card.json", tmp_path, 100)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError("token"), r"access is denied \(PermissionError: token\); check the credentials$"),
        (TimeoutError("slow\nvery"), r"cannot be read \(TimeoutError: slow\); check the connection"),
        (KeyError("odd"), r"cannot be read \(KeyError: 'odd'\); check the connection"),
    ],
)
def test_errors_of_a_file_system_are_one_line(
    remote: RemoteRepository, error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(LS, fail)
    with pytest.raises(RemoteUnavailable, match=rf"^memory://bucket/models: {message}"):
        remote.models()


def test_a_full_disk_is_not_the_fault_of_the_remote(
    remote: RemoteRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OPEN, fail)
    with pytest.raises(RemoteUnavailable, match=rf"^{tmp_path}: No space left on device; make room"):
        remote.download("tiny/1/card.json", tmp_path / "copy", 100)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("odd://bucket/models", r"odd://bucket/models: cannot be opened \(ValueError: .*odd"),
        ("https://me:secret@host.test/models?a=b", r"https://host.test/models\?a=b: .* give one without \? and #$"),
    ],
)
def test_a_url_that_can_never_work_is_refused(url: str, message: str) -> None:
    with pytest.raises(RemoteError, match=f"^{message}") as caught:
        RemoteRepository(url)
    assert not isinstance(caught.value, RemoteUnavailable)


NAMES = st.text(max_size=80) | st.text("./\\~:%0123456789abc \x00\n", max_size=12)


@given(st.lists(NAMES, max_size=5), st.sampled_from(["", "/bucket/models/", "/", "../"]))
def test_no_listing_makes_a_name_that_leads_elsewhere(names: list[str], parent: str) -> None:
    def listing(*_: object, **__: object) -> list[dict[str, Any]]:
        return [{"name": parent + name, "type": "directory"} for name in names]

    remote = RemoteRepository("memory://bucket/models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LS, listing)
        for name in remote.models():
            assert check_name(name) == name
            assert not re.search(r"[/\\]|^\.", name)
        versions, _ = remote.versions("tiny")
        assert all(0 < version < 10**19 for version in versions)
