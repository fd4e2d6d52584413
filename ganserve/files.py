"""Writes files atomically: after a crash or a full disk, a reader finds the old or the new content, never a part."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
