"""Turns Ctrl-C into a flag that a command polls, so that it can finish a step and report what it has done."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """In its block, the first Ctrl-C only sets `asked`; the second one has its previous effect."""

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
            os.write(sys.stderr.fileno(), b"\r\nstopping; press Ctrl-C again to quit immediately\r\n")
