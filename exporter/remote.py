"""Fetches a file from a URL: from the Hugging Face Hub, a bucket, or whatever else fsspec knows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from exporter.errors import InputError
from ganserve.foreign import first_line

_SEPARATOR: Final = "://"


def is_url(location: str | Path) -> bool:
    """Whether it names a file elsewhere, such as hf://user/repository/file.safetensors or s3://bucket/file.pth."""
    return _SEPARATOR in str(location)


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
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputError(f"{where}: URLs need fsspec; install ganserve[hub]") from error
    try:
        files, path = url_to_fs(url)
    except ImportError as error:  # names the package of this kind of URL
        raise InputError(
            f"{where}: needs another package ({first_line(error)}); for hf://, install ganserve[hub]"
        ) from error
    except ValueError as error:  # an unknown protocol
        raise InputError(
            f"{where}: cannot be opened ({first_line(error)}); give a file, or a URL like hf:// or s3://"
        ) from error
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
