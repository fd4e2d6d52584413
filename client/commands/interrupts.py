"""Ctrl-C as a question that a command asks between two steps, so that it can say what it has done."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """While this is open, the first Ctrl-C only makes `asked` true; the second does what it did before."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before or signal.SIG_DFL)
        if sys.stderr.isatty():  # not through rich, which may hold its lock here
            os.write(sys.stderr.fileno(), b"\r\nstopping; Ctrl-C again stops at once\r\n")
