"""The errors of an export. Each is one line for the user; click prints it and exits with its code."""

from __future__ import annotations

import click


class ExportError(click.ClickException):
    """The request is valid, but the export failed; the message says what to do."""

    exit_code = 1


class InputError(ExportError):
    """The given run, module, weights or settings cannot be exported."""

    exit_code = 2


class ParityError(ExportError):
    """An exported file does not compute what the network computes."""
