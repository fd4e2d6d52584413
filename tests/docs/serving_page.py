"""The pages about the server as data: their tables, each marked by a comment, and their code blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_DOCS: Final = Path(__file__).parents[2] / "docs"
PAGES: Final = ("serving.md", "protocols.md", "tuning.md", "server-reference.md")
TEXT: Final = "\n".join((_DOCS / page).read_text() for page in PAGES)
_SPAN: Final = re.compile(r"`([^`]+)`")


def table(name: str) -> list[list[str]]:
    """The rows of a table, without its header, as cell texts."""
    marker = f"<!-- table: {name} -->\n"
    assert TEXT.count(marker) == 1, f"the pages have no {marker.strip()}, or several"
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
    """The first column of a table; its names are unique."""
    first = [code(row[0]) for row in table(name)]
    assert len(set(first)) == len(first), f"{name} names something twice"
    return first


def spans(text: str) -> list[str]:
    """The code spans of a text."""
    return _SPAN.findall(text)


def code(text: str) -> str:
    """The only code span of a cell."""
    (only,) = spans(text)
    return only


def blocks(language: str) -> list[str]:
    """The code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


COMMANDS: Final = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


def prose() -> str:
    """The pages without their code blocks."""
    return re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
