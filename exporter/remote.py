"""Fetches a file from a URL: from the Hugging Face Hub, a bucket, or whatever else fsspec knows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from exporter.errors import InputError
from ganserve.foreign import first_line
from ganserve.urls import UrlError, is_url, open_file_system

__all__ = ["is_url", "local_file"]


@contextmanager
def local_file(location: str, flag: str, begin: Callable[[str], None]) -> Iterator[Path]:
    """Yields the path of a file on this machine; that of a URL is a copy, which is removed afterwards.

    Args:
        location: A path or a URL; empty for no file.
        flag: The flag that named it, for error messages.
        begin: Called before a transfer, which may take long.

    Raises:
        InputError: There is no such file, or it cannot be fetched. Errors that name the copy name the URL instead.
    """
    if not is_url(location):
        path = Path(location).expanduser()
        if location and not path.is_file():
            reason = "is a folder; name the file in it" if path.is_dir() else "no such file"
            raise InputError(f"{flag} {path}: {reason}")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ganserve-") as folder:
        copy = Path(folder) / (PurePosixPath(location.partition("?")[0]).name or "weights")
        begin(f"fetch {location}")
        _fetch(location, copy, f"{flag} {location}")
        try:
            yield copy
        except InputError as error:
            raise InputError(str(error).replace(str(copy), location)) from error


def _fetch(url: str, copy: Path, where: str) -> None:
    try:
        files, path = open_file_system(url)
    except UrlError as error:
        raise InputError(f"{where}: {error}") from error
    try:
        if files.isdir(path):
            raise InputError(f"{where}: is a folder; name the file in it")
        files.get_file(path, str(copy))
    except FileNotFoundError as error:
        raise InputError(f"{where}: no such file; check the name, and your access to it") from error
    except InputError:
        raise
    except Exception as error:  # every file system raises its own errors
        raise InputError(
            f"{where}: cannot be fetched ({first_line(error)}); check the connection and your access, or download it"
            " yourself and give the file"
        ) from error
