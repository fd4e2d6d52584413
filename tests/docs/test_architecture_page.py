"""docs/architecture.md is a map of the code: it names every folder, and no file that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
STAGES = ("trainer", "exporter", "server", "client", "ganserve", "benchmarks")
FOLDERS = sorted(
    {
        path.parent.relative_to(ROOT)
        for stage in STAGES
        for path in (ROOT / stage).rglob("*.py")
        if path.parts[len(ROOT.parts) :][:2] != ("benchmarks", "peers") or path.parent.name == "peers"
    }
)


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_every_folder_is_on_the_map(folder: Path) -> None:
    assert re.search(rf"`{folder}/?`", PAGE)


def test_no_file_is_on_the_map_that_does_not_exist() -> None:
    named = re.findall(r"`([a-z0-9_/]+\.py)`", PAGE)
    assert named
    there = {path.relative_to(ROOT).as_posix() for stage in STAGES for path in (ROOT / stage).rglob("*.py")}
    there |= {Path(path).name for path in there} | {"tests/test_architecture.py"}
    assert not [name for name in named if name not in there]
