"""The arrows of the pipeline, and the size of its files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("trainer", "exporter", "server", "client", "ganserve")

# Who may import what of another stage: data flows right, so imports point left, and only at contracts.
ALLOWED = {
    "trainer": {"ganserve"},
    "exporter": {"ganserve", "trainer.checkpoint"},
    "server": {"ganserve", "exporter.bundle"},
    "client": {"ganserve"},
    "ganserve": set[str](),
}
# One command scores what any stage makes (docs/decisions/0013), so its package may ask a bundle and a server.
ALLOWED_TO_PACKAGES = {"trainer.evaluate": {"exporter.bundle", "client"}}
# Packages a stage must not load with its own modules.
FORBIDDEN = {
    "exporter.bundle": {"torch", "onnx", "onnxruntime"},
    "server": {"torch", "torchvision", "onnx"},
    "client": {"torch", "onnxruntime", "onnx", "msgspec"},
    "ganserve": {"torch", "onnxruntime"},
}
MAX_LINES = 300


def modules(stage: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / stage).rglob("*.py")):
        if "_pb2" not in path.name:
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


ALL = [pytest.param(name, path, id=name) for stage in STAGES for name, path in modules(stage)]


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


@pytest.mark.parametrize(("name", "path"), ALL)
def test_imports_follow_the_arrows(name: str, path: Path) -> None:
    stage = name.partition(".")[0]
    targets = ALLOWED[stage] | {
        target
        for package, more in ALLOWED_TO_PACKAGES.items()
        if f"{name}.".startswith(f"{package}.")
        for target in more
    }
    for imported in imports(path):
        other = imported.partition(".")[0]
        if other in STAGES and other != stage:
            allowed = any(imported == target or imported.startswith(f"{target}.") for target in targets)
            is_parent = any(target.startswith(f"{imported}.") for target in targets)
            assert allowed or is_parent, f"{name} must not import {imported}"


@pytest.mark.parametrize(("name", "path"), ALL)
def test_heavy_runtimes_stay_out_of_stages_that_do_without(name: str, path: Path) -> None:
    for scope, packages in FORBIDDEN.items():
        if name == scope or name.startswith(f"{scope}."):
            loaded = {imported.partition(".")[0] for imported in imports(path, top_level_only=True)}
            assert not loaded & packages, f"{name} loads {loaded & packages}"


@pytest.mark.parametrize(("name", "path"), ALL)
def test_a_file_can_be_read_in_one_sitting(name: str, path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= MAX_LINES, f"{name} has {lines} lines"


def test_there_is_no_drawer_for_everything() -> None:
    assert not [
        name for stage in STAGES for name, path in modules(stage) if path.stem in {"utils", "helpers", "common"}
    ]


def test_stubs_match_the_proto_files(tmp_path: Path) -> None:
    from grpc_tools import protoc

    flags = [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    code = protoc.main(["", f"--proto_path={ROOT / 'proto'}", *flags, "ganserve/v1/generator.proto"])
    assert code == 0
    for fresh in (tmp_path / "ganserve" / "v1").iterdir():
        committed = ROOT / "ganserve" / "v1" / fresh.name
        assert committed.read_text() == fresh.read_text(), f"{committed.name}: run make proto"
