"""A page of a report: plain values in, one self-contained HTML file out. All text is escaped by the template engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ganserve.files import replace_file
from trainer.report.pictures import Picture


@dataclass(frozen=True)
class TableCell:
    """One cell of a table."""

    text: str
    is_best: bool = False
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """A table, its first column naming the rows."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    note: str = ""


@dataclass(frozen=True)
class Strip:
    """Pictures side by side under one heading."""

    title: str
    pictures: Sequence[Picture]
    note: str = ""


@dataclass(frozen=True)
class Detail:
    """All about one run, or one cell of a sweep."""

    title: str
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    settings: Sequence[tuple[str, str]] = ()
    commands: Sequence[tuple[str, str]] = ()  # what for, command
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    lead: Sequence[str]
    label: str = ""  # said loudly beside the title: "quick form"
    tables: Sequence[Table] = field(default_factory=tuple)
    charts: Sequence[Strip] = field(default_factory=tuple)
    strips: Sequence[Strip] = field(default_factory=tuple)
    details: Sequence[Detail] = field(default_factory=tuple)


def render(page: Page) -> str:
    """The page as HTML that loads nothing from anywhere."""
    environment = Environment(
        loader=PackageLoader("trainer.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(page=page)


def write_page(page: Page, path: Path) -> None:
    """Writes the page whole or not at all."""
    replace_file(path, render(page).encode("utf-8", "backslashreplace"))
