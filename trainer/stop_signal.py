"""Ctrl-C and SIGTERM as a question that a training asks after every step."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class StopOnSignal:
    """While entered, Ctrl-C and SIGTERM ask the loop to stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self.requested
