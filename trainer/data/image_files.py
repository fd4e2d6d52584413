"""Finds the pictures in a folder or zip file, and counts what it leaves out.

A file is a picture by its suffix or by its content; decoding.py decides by content alone. Links are followed.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ganserve.picture_formats import counts, why_left_out
from ganserve.pictures import UnreadablePictureError
from trainer.errors import UserError

MAX_FILE_BYTES = 64 << 20
_PART_BYTES = 1 << 20  # a larger read would allocate its full size first

Open = Callable[[], IO[bytes]]


@dataclass(frozen=True)
class ImageFile:
    """One file that may be an image."""

    name: str
    path: PurePosixPath  # below the folder, or inside the archive
    open: Open
    identity: Callable[[], str]  # changes with the content: size, and time or checksum

    def read(self) -> bytes:
        """The content.

        Raises:
            UnreadablePictureError: it cannot be read, or is too large to be a picture.
        """
        parts, size = [], 0
        try:
            with self.open() as file:
                while size <= MAX_FILE_BYTES and (part := file.read(_PART_BYTES)):
                    parts.append(part)
                    size += len(part)
        except OSError as error:
            raise UnreadablePictureError(error.strerror or str(error)) from error
        except Exception as error:  # hostile archives raise many exception types
            raise UnreadablePictureError(str(error) or type(error).__name__) from error
        if size > MAX_FILE_BYTES:  # counted, because the size in an archive is untrusted
            raise UnreadablePictureError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
        return b"".join(parts)


@dataclass(frozen=True)
class ImageSource:
    """Image files in a stable order."""

    flag: str  # --dataset and its value, for messages
    files: list[ImageFile]
    left_out: Mapping[str, int] = field(default_factory=dict)  # what is not read: why -> how many


@contextmanager
def open_source(path: Path) -> Iterator[ImageSource]:
    """Opens a folder, searched to any depth and through links, or a zip file.

    Raises:
        UserError: it does not exist, is neither, or holds no image.
    """
    flag = f"--dataset {path}"
    if path.is_dir():
        left_out: Counter[str] = Counter()
        found = sorted(_files_below(path, left_out))
        files = [
            ImageFile(str(below), PurePosixPath(below), partial(_open_file, path / below), partial(_seen, path / below))
            for below in found
        ]
        yield _source(flag, files, left_out)
        return
    if not path.is_file():
        raise UserError(f"{flag}: no such folder or zip file")
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # hostile archives raise many exception types
        raise UserError(f"{flag}: neither a folder nor a readable zip file ({error})") from error
    with archive:
        entries = sorted(
            (entry for entry in archive.infolist() if not entry.is_dir()), key=lambda entry: entry.filename
        )
        members = [
            ImageFile(
                entry.filename,
                PurePosixPath(entry.filename.replace(os.sep, "/")),
                partial(archive.open, entry),
                partial(_seen_in_archive, entry),
            )
            for entry in entries
        ]
        yield _source(flag, members, Counter())


def _files_below(root: Path, left_out: Counter[str]) -> Iterator[Path]:
    """The files below a folder, relative to it. A folder is read once, whatever links lead to it."""
    read: set[tuple[int, int]] = set()
    folders, links = [Path()], list[Path]()
    while folders or links:
        folder = folders.pop() if folders else links.pop()  # real folders first: their names are those of the files
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in read:
                left_out["link to a folder that is read already"] += 1
                continue
            read.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(root / folder))
        except OSError as error:
            if not folder.parts:
                raise UserError(f"--dataset {root}: cannot be read ({error.strerror})") from error
            left_out["unreadable folder"] += 1
            continue
        for entry in entries:
            try:
                mode = entry.stat().st_mode  # of what a link leads to
            except OSError:
                left_out["broken link"] += 1
                continue
            if stat.S_ISDIR(mode):
                (links if entry.is_symlink() else folders).append(folder / entry.name)
            elif stat.S_ISREG(mode):
                yield folder / entry.name
            else:
                left_out["neither file nor folder"] += 1


def _source(flag: str, found: Iterable[ImageFile], left_out: Counter[str]) -> ImageSource:
    """Keeps the files that have an image's suffix or content, and are not hidden."""
    files: list[ImageFile] = []
    for file in found:
        if (reason := why_left_out(file.path, file.open)) is None:
            files.append(file)
        else:
            left_out[reason] += 1
    sorted_counts = dict(left_out.most_common())
    if not files:
        others = f"; left out: {counts(sorted_counts)}" if left_out else ""
        raise UserError(f"{flag}: no images found, by suffix or by content{others}")
    return ImageSource(flag, files, sorted_counts)


def _open_file(path: Path) -> IO[bytes]:
    return path.open("rb")


def _seen(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _seen_in_archive(entry: zipfile.ZipInfo) -> str:
    return f"{entry.file_size} {entry.CRC}"
