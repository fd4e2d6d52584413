"""Tables on stdout: fitted to a terminal, or plain aligned lines for pipes and files."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_INDENT = "  "


def print_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Prints a table; each line has as many cells as the header."""
    if sys.stdout.isatty():
        table = Table(*header)
        for line in lines:
            table.add_row(*map(Text, line))  # Text, so that markup in the server's strings has no effect
        Console(emoji=False).print(table)
    else:
        _print_aligned([header, *lines])


def print_section(title: str, lines: Sequence[Sequence[str]]) -> None:
    """Prints lines under a title; lines may differ in their number of cells."""
    if sys.stdout.isatty():
        table = Table.grid(padding=(0, 2))
        for _ in range(1 + max(map(len, lines), default=0)):  # the first column is empty, as an indent
            table.add_column(overflow="fold")
        for line in lines:
            table.add_row("", *map(Text, line))
        console = Console(emoji=False)
        console.print(Text(title, style="bold"))
        console.print(table)
    else:
        click.echo(title)
        _print_aligned(lines, _INDENT)


def _print_aligned(lines: Sequence[Sequence[str]], indent: str = "") -> None:
    columns = max(map(len, lines), default=0)
    widths = [max(len(line[column]) for line in lines if column < len(line)) for column in range(columns)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=False))
        click.echo((indent + "  ".join(cells)).rstrip())
