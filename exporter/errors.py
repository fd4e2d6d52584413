"""Why an export stops. Each error is one line for the user, and knows the exit code of the command line."""

from __future__ import annotations

from typing import ClassVar


class ExportError(Exception):
    """The export failed although what was asked for is sound; the message says what to do."""

    exit_code: ClassVar[int] = 1


class InputError(ExportError):
    """The run, module, weights or settings that were given cannot be exported."""

    exit_code: ClassVar[int] = 2


class ParityError(ExportError):
    """An exported file does not compute what the network computes."""
