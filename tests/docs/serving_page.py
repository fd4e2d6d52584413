"""docs/serving.md as data: its tables, each marked by a comment before it, and its blocks of code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

PATH: Final = Path(__file__).parents[2] / "docs" / "serving.md"
TEXT: Final = PATH.read_text()
_SPAN: Final = re.compile(r"`([^`]+)`")


def table(name: str) -> list[list[str]]:
    """The rows of a table, below its head, as the texts of their cells."""
    marker = f"<!-- table: {name} -->\n"
    assert TEXT.count(marker) == 1, f"docs/serving.md has no {marker.strip()}, or several"
    lines = []
    for line in TEXT.partition(marker)[2].splitlines():
        if not line.startswith("|"):
            break
        lines.append([cell.strip() for cell in line.strip("|").split("|")])
    head, _, *rows = lines
    assert rows
    assert all(len(row) == len(head) for row in rows), f"a row of {name} has a cell too many or too few"
    return rows


def names(name: str) -> list[str]:
    """The first column of a table, each name in it once."""
    first = [code(row[0]) for row in table(name)]
    assert len(set(first)) == len(first), f"{name} names one thing twice"
    return first


def spans(text: str) -> list[str]:
    """What a text has as code."""
    return _SPAN.findall(text)


def code(text: str) -> str:
    """The one thing that a cell has as code."""
    (only,) = spans(text)
    return only


def blocks(language: str) -> list[str]:
    """The blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


COMMANDS: Final = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


def prose() -> str:
    """The page without its blocks of code."""
    return re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
