"""Runs the project's own commands; their output goes to the log of the stage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


class CommandFailed(Exception):  # noqa: N818 - says what happened
    """A command ended with an error."""


def command(*arguments: str) -> list[str]:
    """`python -m` with these arguments."""
    return [sys.executable, "-m", *arguments]


def run_module(*arguments: str) -> str:
    """Runs `python -m` with these arguments; returns what it prints.

    Raises:
        CommandFailed: it ends with an error.
    """
    return finish(subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))


def finish(process: subprocess.Popen[str], timeout_s: float | None = None) -> str:
    """Waits for a process whose output is a pipe; returns what it has printed.

    Raises:
        CommandFailed: it has ended with an error.
        subprocess.TimeoutExpired: it has not ended.
    """
    text, _ = process.communicate(timeout=timeout_s)
    print(text, flush=True)
    if process.returncode:
        lines = [line.strip() for line in text.splitlines() if any(map(str.isalnum, line))]  # torchrun draws lines
        last = lines[-1] if lines else "no output"
        raise CommandFailed(f"exit code {process.returncode}: {last}")
    return text


def last_line(text: str) -> Path:
    """The path in the last line that the trainer prints."""
    return Path(text.strip().splitlines()[-1].strip())
