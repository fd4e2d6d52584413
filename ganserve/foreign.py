"""What is told about code that is not ours: its errors, and its versions."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_MAX_LENGTH = 200


def first_line(error: BaseException) -> str:
    """The class and the first non-empty line of an error from another package, cut to 200 characters."""
    lines = (line.strip() for line in str(error).splitlines())
    return f"{type(error).__name__}: {next(filter(None, lines), '')}"[:_MAX_LENGTH].removesuffix(": ")


def version_of(*packages: str) -> str:
    """The version of the first of these packages that is installed; "unknown" if none is."""
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "unknown"
