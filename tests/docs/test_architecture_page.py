"""docs/architecture.md is a map of the server and the exporter: it names every file, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SECTIONS = {
    "exporter": PAGE.partition("\n## exporter\n")[2].partition("\n## ")[0],
    "server": PAGE.partition("\n## server")[2].partition("\n## client\n")[0],
}
FILES = [
    path.relative_to(ROOT)
    for stage in SECTIONS
    for path in sorted((ROOT / stage).rglob("*.py"))
    if path.name != "__init__.py"
]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_file_is_on_the_map(path: Path) -> None:
    assert re.search(rf"`(?:[a-z0-9_]+/)*{path.stem}(?:\.py|\.[a-z_]+)?`", SECTIONS[path.parts[0]])


def test_no_file_is_on_the_map_that_does_not_exist() -> None:
    named = re.findall(r"`([a-z0-9_/]+\.py)`", PAGE)
    assert named
    stages = ("trainer", "exporter", "server", "client", "ganserve", "tests")
    there = {path.name for stage in stages for path in (ROOT / stage).rglob("*.py")}
    assert not [name for name in named if Path(name).name not in there]
