"""Which picture files are translated, and where each goes; decided before any work. Knows no server and no pixels.

Names are kept as plain strings, so that a folder of 100,000 files costs a few dozen megabytes.
"""
# ruff: noqa: PTH112, PTH113, PTH118, PTH119, PTH120, PTH122  (os.path, for these strings)

from __future__ import annotations

import os
import platform
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from client.errors import InvalidRequest

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class PictureFile:
    """One file to translate."""

    source: str
    output: str


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    files: list[PictureFile]
    unreadable: list[tuple[str, str]]  # folders that cannot be searched, and why


def plan_translation(inputs: Sequence[str], out: str, extension: str) -> Plan:
    """Finds the files and decides where each goes: a file directly into `out`, a folder's with its relative folders.

    Folders are searched to any depth, without links to folders, hidden names, and `out` itself, which may lie there.

    Args:
        inputs: files and folders.
        out: the folder to write to; nothing is ever written outside of it.
        extension: of the files to be written, ".png" for example.

    Raises:
        InvalidRequest: an input is not there or holds no picture, two would be written to one file, an input would be
            replaced by its own translation, or `out` leads elsewhere.
    """
    unreadable: list[tuple[str, str]] = []
    by_output: dict[str, PictureFile] = {}
    real_folders = _RealFolders()
    for path in inputs:
        found = False
        for source, relative in _pictures(path, out, unreadable):
            found = True
            file = PictureFile(source, os.path.join(out, os.path.splitext(relative)[0] + extension))
            other = by_output.setdefault(_key(file.output), file)
            if real_folders.resolve(other.source) != real_folders.resolve(source):
                raise InvalidRequest(
                    f"{other.source} and {source} would both become {file.output}; rename one of them, or translate"
                    " them in two calls into different --out folders"
                )
        if not found and not unreadable:
            raise InvalidRequest(f"{path}: no picture in it (looked for {', '.join(SUFFIXES)}); name another folder")
    files = list(by_output.values())
    _check_outputs(files, out, real_folders)
    return Plan(files, unreadable)


def is_among(path: str, files: Sequence[PictureFile]) -> bool:
    """Whether `path` is one of the files to read or to write."""
    real_folders = _RealFolders()
    wanted = _key(real_folders.resolve(path))
    return any(wanted == _key(real_folders.resolve(name)) for file in files for name in (file.source, file.output))


class _RealFolders:
    """Resolves links in the folders of many files, each folder once."""

    def __init__(self) -> None:
        self._resolved: dict[str, str] = {}

    def folder_of(self, path: str) -> str:
        """The folder of `path`, free of links."""
        folder = os.path.dirname(path)
        if folder not in self._resolved:
            self._resolved[folder] = os.path.realpath(folder or os.curdir)
        return self._resolved[folder]

    def resolve(self, path: str) -> str:
        """`path` with its folder free of links; the file itself may be one."""
        return os.path.join(self.folder_of(path), os.path.basename(path))


def _pictures(path: str, out: str, unreadable: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yields (source, path relative to the output folder) of an input, sorted."""
    if not os.path.isdir(path):
        if not os.path.isfile(path):
            raise InvalidRequest(f"{path}: neither a file nor a folder; check the name")
        yield path, os.path.basename(path)
        return

    def note(error: OSError) -> None:
        unreadable.append((str(error.filename), error.strerror or str(error)))

    real_out = os.path.realpath(out)
    for folder, folders, names in os.walk(path, onerror=note):
        folders[:] = sorted(
            name
            for name in folders
            if not _is_hidden(name) and os.path.realpath(os.path.join(folder, name)) != real_out
        )
        relative_folder = os.path.relpath(folder, path)
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not _is_hidden(name):
                relative = name if relative_folder == os.curdir else os.path.join(relative_folder, name)
                yield os.path.join(folder, name), relative


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _check_outputs(files: list[PictureFile], out: str, real_folders: _RealFolders) -> None:
    real_out = os.path.realpath(out)
    sources = {_key(real_folders.resolve(file.source)) for file in files}
    for file in files:
        folder = real_folders.folder_of(file.output)
        if not f"{folder}{os.sep}".startswith(f"{real_out.rstrip(os.sep)}{os.sep}"):
            raise InvalidRequest(
                f"{file.output} would lie in {folder}, outside of the --out folder, for a link leads there; remove the"
                " link, or name another --out folder"
            )
        if _key(real_folders.resolve(file.output)) in sources:
            raise InvalidRequest(f"{file.output} is an input and would be replaced; name another --out folder")


def _key(path: str) -> str:
    """The same for names that the file system takes for one."""
    if platform.system() == "Darwin":
        return unicodedata.normalize("NFC", path).casefold()
    return os.path.normcase(path)
