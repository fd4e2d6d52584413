"""How the trainer's commands end on an error or a signal: one line, and an exit code."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

from ganserve.command_line import USER_ERROR, fail
from trainer.errors import UserError

EXIT_INTERRUPTED: Final = 130


@contextmanager
def mistakes_in_one_line(interrupted: str) -> Iterator[None]:
    """Turns user errors, file errors and Ctrl-C into one line and an exit code.

    Args:
        interrupted: the message for Ctrl-C; it says what was saved.
    """
    try:
        yield
    except UserError as error:
        fail(str(error), USER_ERROR)
    except OSError as error:
        fail(f"{str(error.filename or 'a file')[:200]}: {error.strerror}", USER_ERROR)
    except KeyboardInterrupt as error:
        fail(str(error) or interrupted, EXIT_INTERRUPTED)


@dataclass
class StopOnSignal:
    """While entered, turns Ctrl-C and SIGTERM into a flag that the loop polls; a second signal stops at once."""

    requested: bool = False
    _handlers: dict[int, Any] = field(default_factory=dict)

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
        """Whether a signal has arrived."""
        return self.requested
