"""Keeps two processes from writing to the same folder."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from trainer.errors import UserError

FILE: Final = ".lock"
_UNSUPPORTED: Final = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


class FolderLock:
    """A lock on a folder, through the file .lock in it, which stays. One object may hold it several times at once.

    The kernel releases it when the process ends, also by a kill.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / FILE, timeout=0)

    @contextmanager
    def held(self, busy: UserError) -> Iterator[bool]:
        """Holds the lock; yields False if the file system has no locks, so that two processes are not kept apart.

        Raises:
            UserError: `busy`, if another process holds it.
            OSError: the folder is not writable.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise busy from None
        except (OSError, NotImplementedError) as error:  # the second by older versions of filelock
            if isinstance(error, OSError) and error.errno not in _UNSUPPORTED:
                raise
            yield False
            return
        try:
            yield True
        finally:
            self._lock.release()
