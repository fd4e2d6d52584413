"""Describes other packages: their errors in one line, and their versions."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_MAX_LENGTH = 200


def first_line(error: BaseException) -> str:
    """The class of an error and the first non-empty line of its message, cut to 200 characters."""
    lines = (line.strip() for line in str(error).splitlines())
    return f"{type(error).__name__}: {next(filter(None, lines), '')}"[:_MAX_LENGTH].removesuffix(": ")


def version_of(*packages: str) -> str:
    """The version of the first of these packages that is installed, or "unknown"."""
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "unknown"
