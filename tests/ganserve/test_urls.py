from __future__ import annotations

import builtins
from typing import Any

import pytest

from ganserve.urls import DRIVERS, UrlError, is_url, open_file_system, without_password

fsspec = pytest.importorskip("fsspec")


@pytest.mark.parametrize(
    ("location", "expected"),
    [("hf://user/repository/g.pth", True), ("s3://b/g", True), ("a/g.pth", False), ("C:/g", False)],
)
def test_a_url_has_a_protocol(location: str, expected: bool) -> None:
    assert is_url(location) == expected


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("https://me:secret@host/models", "https://host/models"),
        ("hf://user/repository@v1/models", "hf://user/repository@v1/models"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
    ],
)
def test_a_password_is_not_printed(url: str, printed: str) -> None:
    assert without_password(url) == printed


def test_the_path_of_a_url_in_its_file_system() -> None:
    files, path = open_file_system("memory://bucket/models")
    assert (type(files), path) == (fsspec.get_filesystem_class("memory"), "/bucket/models")


def test_an_unknown_protocol_is_an_error_with_examples() -> None:
    with pytest.raises(UrlError, match=r"cannot be opened \(ValueError: .*odd.*\); give a URL like s3://"):
        open_file_system("odd://bucket")


def test_drivers_are_of_protocols_that_fsspec_knows() -> None:
    assert not DRIVERS.keys() - set(fsspec.available_protocols())


@pytest.mark.parametrize("protocol", [*DRIVERS, "sftp"])
def test_a_missing_package_gives_the_command_that_installs_it(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_fsspec(name: str, *rest: Any) -> Any:
        if name.startswith("fsspec"):
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_fsspec)
    packages = " ".join(["fsspec", *([DRIVERS[protocol]] if protocol in DRIVERS else [])])
    with pytest.raises(UrlError, match=rf"^{protocol}:// needs another package \(.*\); run pip install {packages}$"):
        open_file_system(f"{protocol}://a/b")


def test_large_files_have_more_than_five_minutes() -> None:
    pytest.importorskip("aiohttp")
    files, _ = open_file_system("https://host.test/models")
    assert files.client_kwargs["timeout"].total is None
    assert files.client_kwargs["timeout"].sock_read
