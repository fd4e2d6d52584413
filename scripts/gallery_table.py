"""Measures the gallery of imported networks and writes its table to docs/importing.md: python -m scripts.gallery_table.

Takes about 20 seconds: exports every network, serves them all, and compares the pixels with eager PyTorch.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.exporter.gallery.entries import GALLERY
from tests.exporter.gallery.measured import compare, served_gallery

PAGE = Path(__file__).parents[1] / "docs" / "importing.md"
BEGIN, END = "<!-- gallery: begin", "<!-- gallery: end -->"


def gallery_table(levels: Mapping[str, int]) -> str:
    """The table in Markdown.

    Args:
        levels: The largest pixel difference of each network, in grey levels.
    """
    lines = ["| in the style of | flags | largest pixel difference |", "|---|---|---|"]
    lines += [f"| {entry.style} | `{shlex.join(entry.flags)}` | {levels[name]} |" for name, entry in GALLERY.items()]
    return "\n".join(lines)


def levels_in(text: str) -> dict[str, int]:
    """The differences in the table of a page.

    Raises:
        ValueError: The table has not one row for each network.
    """
    table = text.split(BEGIN, 1)[1].split(END, 1)[0]
    found = re.findall(r"^\| .* \| (\d+) \|$", table, re.MULTILINE)
    return dict(zip(GALLERY, map(int, found), strict=True))


def with_table(text: str, levels: Mapping[str, int]) -> str:
    """The text of the page with this table."""
    head, rest = text.split(BEGIN, 1)
    comment, rest = rest.split("\n", 1)
    _, tail = rest.split(END, 1)
    return f"{head}{BEGIN}{comment}\n{gallery_table(levels)}\n{END}{tail}"


def measured_levels() -> dict[str, int]:
    """The largest pixel difference of each network."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served_gallery(Path(folder)) as (client, networks),
    ):
        return {name: compare(name, client, network).largest_difference for name, network in networks.items()}


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(), measured_levels()))
