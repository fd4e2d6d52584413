"""Writes files atomically: after a crash or a full disk, a reader finds the old or the new content, never a part.

Also reads files that may be anything, such as those of a model repository.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Reads a whole file; never waits for the writer of a FIFO, and never reads a device.

    Follows symbolic links, because Kubernetes mounts the files of a volume as links.

    Raises:
        OSError: The file cannot be read, is not a regular file, has more than `max_bytes`, or grows meanwhile.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
        content = file.read(status.st_size + 1)
    if len(content) > status.st_size:
        raise OSError(errno.EAGAIN, "it is still being written", str(path))
    return content


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such flag, and no FIFOs in folders


def replace_file(path: Path, content: bytes) -> None:
    """Writes `content` to a temporary file and renames it to `path`.

    Raises:
        OSError: The file cannot be written; `path` is unchanged.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yields a temporary path to write to, and renames it to `path` on success.

    After an error, `path` is unchanged and the temporary file is gone.

    Args:
        path: The file to replace.
        flush: Wait until the file is on disk, which takes milliseconds. Without it, a crash of the machine can leave
            an empty file.

    Raises:
        OSError: The file cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # short, because path.name may have the maximum length
    try:
        yield temporary
        if flush:
            flush_to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Waits until a file or folder is on disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
