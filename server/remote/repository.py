"""A model repository at a URL: what is in it, and its files."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ganserve.bundle import TRITON_CONFIG_FILE, BundleError, check_name
from ganserve.foreign import first_line
from ganserve.urls import UrlError, open_file_system, without_password
from server.remote.errors import NotThere, RemoteError, RemoteUnavailable

Progress = Callable[[int, int | None], None]
"""Is called with the bytes so far, and the bytes in all, if they are known."""

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_VERSION: Final = re.compile(r"[1-9][0-9]{0,18}")


class RemoteRepository:
    """Lists and reads a model repository through fsspec. Trusts no name from there.

    Args:
        url: Of the folder that holds the models, or of the folder of one version.

    Raises:
        RemoteError: The URL cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self.url = without_password(url).rstrip("/")
        if "?" in url or "#" in url:
            raise RemoteError(f"{self.url}: names of models are appended to the URL; give one without ? and #")
        try:
            self._files, self._root = open_file_system(url.rstrip("/"))
        except UrlError as error:
            raise RemoteError(f"{self.url}: {error}") from error
        except Exception as error:  # every file system raises its own errors
            raise RemoteUnavailable(f"{self.url}: cannot be opened ({first_line(error)}); check the URL") from error

    def refresh(self) -> None:
        """Forgets listings: file systems keep them."""
        self._files.invalidate_cache()

    def models(self) -> list[str]:
        """Names of folders that may be models, sorted.

        Raises:
            RemoteUnavailable: The folder cannot be listed.
        """
        return sorted(name for name, is_folder in self._list("").items() if is_folder and _is_model_name(name))

    def versions(self, name: str) -> tuple[list[int], bool]:
        """The versions of a model in ascending order, and whether it has a config.pbtxt.

        Raises:
            NotThere: There is no such folder.
            RemoteUnavailable: It cannot be listed.
        """
        entries = self._list(name)
        versions = [int(entry) for entry, is_folder in entries.items() if is_folder and _VERSION.fullmatch(entry)]
        return sorted(versions), TRITON_CONFIG_FILE in entries

    def has(self, path: str) -> bool:
        """Whether there is such a file; False if that cannot be found out."""
        try:
            with self._one_line_errors(path):
                return bool(self._files.isfile(self._path(path)))
        except RemoteUnavailable:
            return False

    def read(self, path: str, scratch: Path, max_bytes: int) -> bytes:
        """The content of a small file.

        Args:
            path: Of the file in the repository.
            scratch: A folder to write to.
            max_bytes: The most that it may have.

        Raises:
            BundleError: It is larger, or not a file.
            NotThere: There is no such file.
            RemoteUnavailable: It cannot be read.
        """
        copy = scratch / ".part"
        try:
            self.download(path, copy, max_bytes)
            return copy.read_bytes()
        finally:
            copy.unlink(missing_ok=True)

    def download(self, path: str, target: Path, max_bytes: int, progress: Progress | None = None) -> None:
        """Copies a file.

        Args:
            path: Of the file in the repository.
            target: Where to.
            max_bytes: The most that it may have; the transfer ends once it has more.
            progress: Hears of every part.

        Raises:
            BundleError: It is larger, or not a file.
            NotThere: There is no such file.
            RemoteUnavailable: It cannot be read.
        """
        from fsspec.callbacks import Callback

        def on_part(size: int | None, value: int, **_: Any) -> None:
            if max(size or 0, value) > max_bytes:
                raise BundleError(f"{self.where(path)}: larger than {max_bytes} bytes; publish a smaller file")
            if progress is not None:
                progress(value, size)

        with self._one_line_errors(path):
            try:
                self._files.get_file(self._path(path), str(target), callback=Callback(hooks={"part": on_part}))
            except OSError as error:
                if error.errno in _FULL:
                    raise RemoteUnavailable(
                        f"{target.parent}: {error.strerror}; make room, or give another folder"
                    ) from error
                raise
        if not target.is_file():
            raise BundleError(f"{self.where(path)}: is a folder, not a file; publish the model again")
        size = target.stat().st_size
        on_part(size, size)  # not every file system calls it

    def _list(self, folder: str) -> dict[str, bool]:
        """The names in a folder, and whether they are folders."""
        with self._one_line_errors(folder):
            entries = self._files.ls(self._path(folder), detail=True)
        is_folder = {entry["name"].rstrip("/"): entry["type"] == "directory" for entry in entries}
        is_folder.pop(self._path(folder).rstrip("/"), None)  # S3 lists it if a key ends with its name and a slash
        return {PurePosixPath(path).name: is_one for path, is_one in is_folder.items()}

    def _path(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}" if path else self._root

    def where(self, path: str) -> str:
        """The URL of a path in the repository, for people."""
        return f"{self.url}/{path}" if path else self.url

    @contextmanager
    def _one_line_errors(self, path: str) -> Iterator[None]:
        where = self.where(path)
        try:
            yield
        except (BundleError, RemoteError):
            raise
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotThere(
                f"{where}: there is no such bucket, folder or file; check the name and your access"
            ) from error
        except PermissionError as error:
            raise RemoteUnavailable(
                f"{where}: access is denied ({first_line(error)}); check the credentials"
            ) from error
        except Exception as error:  # every file system raises its own errors
            raise RemoteUnavailable(
                f"{where}: cannot be read ({first_line(error)}); check the connection and the credentials"
            ) from error


def _is_model_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except BundleError:
        return False
