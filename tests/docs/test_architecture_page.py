"""docs/architecture.md is a map of the code: it names every folder, and only files that exist."""

from __future__ import annotations

import ast
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


def test_every_file_on_the_map_exists() -> None:
    named = re.findall(r"`([a-z0-9_/]+\.py)`", PAGE)
    assert named
    there = {path.relative_to(ROOT).as_posix() for stage in STAGES for path in (ROOT / stage).rglob("*.py")}
    there |= {Path(path).name for path in there} | {"tests/test_architecture.py"}
    assert not [name for name in named if name not in there]


def functions() -> list[tuple[str, str]]:
    """(file, dotted function) of every row of the tables of functions; an empty cell repeats the file above."""
    rows, file = [], ""
    for named, function in re.findall(r"^\| (?:`([a-z0-9_/]+\.py)`)? ?\| `([A-Za-z_.]+)` \|", PAGE, re.MULTILINE):
        file = named or file
        rows.append((file, function))
    return rows


@pytest.mark.parametrize(("file", "function"), functions())
def test_every_function_on_the_map_exists(file: str, function: str) -> None:
    scope: list[ast.stmt] = ast.parse((ROOT / file).read_text()).body
    for name in function.split("."):
        definitions = [
            node for node in scope if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        (found,) = [node for node in definitions if node.name == name]
        scope = found.body


def test_the_map_covers_a_request_and_a_training_run() -> None:
    files = {file.split("/")[0] for file, _ in functions()}
    assert files == {"ganserve", "server", "trainer"}
    assert len(functions()) > 30
