"""How the commands of the trainer end when they cannot go on: one line, and an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn

import click

from trainer.errors import UserError

EXIT_USER_ERROR: Final = 2
EXIT_INTERRUPTED: Final = 130


def fail(message: str, code: int) -> NoReturn:
    """Ends the command with a line."""
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(code)


@contextmanager
def mistakes_in_one_line(interrupted: str) -> Iterator[None]:
    """Ends the command with a line if the user is mistaken, if a file cannot be had, or on Ctrl-C.

    Args:
        interrupted: what Ctrl-C leaves behind, for the user.
    """
    try:
        yield
    except UserError as error:
        fail(str(error), EXIT_USER_ERROR)
    except OSError as error:
        fail(f"{str(error.filename or 'a file')[:200]}: {error.strerror}", EXIT_USER_ERROR)
    except KeyboardInterrupt as error:
        fail(str(error) or interrupted, EXIT_INTERRUPTED)


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
