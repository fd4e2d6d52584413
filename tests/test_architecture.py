"""Guards the structure: imports between stages, folders and files have no cycles, and files stay short."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("benchmarks", "client", "exporter", "ganserve", "server", "trainer")
PRODUCT = tuple(stage for stage in STAGES if stage != "benchmarks")

# What each stage may import from the others.
ALLOWED = {
    "ganserve": set[str](),
    "trainer": {"ganserve"},
    "exporter": {"ganserve", "trainer.errors", "trainer.runs.config_file", "trainer.runs.run_folder"},
    "server": {"ganserve"},
    "client": {"ganserve"},
    "benchmarks": {"ganserve", "trainer", "exporter", "server", "client"},
}
# trainer.evaluate scores what a server serves, through the client's SDK (docs/decisions/0013).
# One file of the SDK runs the server's core in the same process; NOT_LOADED keeps it from doing so before it is asked.
ALLOWED_TO_PACKAGES = {
    "trainer.evaluate": {"client"},
    "client.sdk.core_thread": {"server.config", "server.core", "server.errors", "server.hosted_call"},
}
# What folders must not import, although both are in one stage.
APART = {
    "server.generator": {"server.open_inference"},
    "server.open_inference": {"server.generator"},
    "server.scheduling": {"server.engines", "server.rpc", "server.generator", "server.open_inference", "server.models"},
    "server.engines": {"server.rpc", "server.generator", "server.open_inference", "server.models"},
    "server.rpc": {"server.generator", "server.open_inference"},
    "server.fronts": {"server.rpc", "server.generator", "server.open_inference", "server.models", "server.scheduling"},
    "trainer.models": {"trainer.training", "trainer.runs", "trainer.data"},
    "trainer.metrics": {"trainer.training", "trainer.runs", "trainer.evaluate"},
    "trainer.runs": {"trainer.training"},
    "client.sdk": {"client.commands", "client.explore", "client.files", "client.samples", "client.bench"},
}
# Packages that a stage must not import at module level; imports inside functions are allowed.
NOT_LOADED = {
    "ganserve": {"torch", "onnx", "onnxruntime"},
    "server": {"torch", "torchvision", "onnx"},
    "server.scheduling": {"grpc", "onnxruntime"},
    "exporter": {"trainer"},
    "server.engines": {"grpc"},
    "client": {"torch", "onnxruntime", "onnx", "msgspec", "server"},
}
MAX_LINES = 500
TELEMETRY = "ORT_DISABLE_TELEMETRY"
# Modules without a test file at the mirrored path: they only declare, and are tested with what uses them.
DECLARATIONS = {
    "exporter.errors": "exceptions and their exit codes",
    "server.ray_serve.context": "the interface of a call",
    "server.remote.errors": "exceptions",
    "server.request": "the fields of a request",
    "server.rest.refusal": "an exception",
    "server.rest.sent": "the fields of a request",
    "trainer.errors": "exceptions",
    "trainer.training.base": "the interface of a training",
}
# Test files of no single module: scenarios, and pages of docs/ that are tried. test_x_y.py is a part of test_x.py.
SCENARIOS = {
    "tests/client/commands/test_against_the_server.py",
    "tests/client/sdk/test_against_the_server.py",
    "tests/exporter/gallery/test_gallery.py",
    "tests/server/engines/test_cuda_parity.py",
    "tests/server/models/test_bad_repositories.py",
    "tests/server/ray_serve/test_cluster.py",
    "tests/server/rpc/test_abandoned_calls.py",
    "tests/server/security/test_both_ends.py",
    "tests/server/test_bursts.py",
    "tests/server/test_overload.py",
    "tests/server/test_storm.py",
    "tests/trainer/distributed/test_torchrun.py",
    "tests/trainer/distributed/test_two_processes.py",
    "tests/trainer/evaluate/test_best_by.py",
    "tests/trainer/evaluate/test_page.py",
    "tests/trainer/runs/test_load_generators.py",
    "tests/trainer/sweep/test_experiments_page.py",
    "tests/trainer/sweep/test_specs_of_experiments.py",
    "tests/trainer/test_progressive_export.py",
    "tests/trainer/test_training_page.py",
    "tests/trainer/training/test_drawn_domains_over_seeds.py",
    "tests/trainer/training/test_every_size.py",
    "tests/trainer/training/test_partial_batches.py",
}


def modules(stage: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / stage).rglob("*.py")):
        if "_pb2" not in path.name:
            yield module_of(path), path


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


PATHS = {name: path for stage in STAGES for name, path in modules(stage)}
ALL = [pytest.param(name, id=name) for name in PATHS]


@cache
def imports(name: str, *, top_level_only: bool = False) -> frozenset[str]:
    """Every dotted name that a module imports, inside functions too unless `top_level_only`."""
    tree = ast.parse(PATHS[name].read_text())
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return frozenset(found)


def is_within(name: str, scope: str) -> bool:
    return name == scope or name.startswith(f"{scope}.")


def cycle_in(imported_by: Mapping[str, Iterable[str]]) -> list[str]:
    """One cycle of a graph, as the names along it; empty without one."""
    try:
        TopologicalSorter(imported_by).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def imported_files(name: str) -> set[str]:
    """The project's files that a module imports, without its parent packages."""
    found = imports(name) & PATHS.keys()
    return {other for other in found if other != name and not is_within(name, other)}


def children(folder: str) -> dict[str, set[str]]:
    """The direct children of a folder, and the siblings that each one imports."""
    depth = folder.count(".") + 1 if folder else 0

    def child_of(name: str) -> str | None:
        is_below = not folder or name.startswith(f"{folder}.")
        return ".".join(name.split(".")[: depth + 1]) if is_below else None

    graph: dict[str, set[str]] = {}
    for name in PATHS:
        if (child := child_of(name)) is not None:
            others = {other for imported in imported_files(name) if (other := child_of(imported)) is not None}
            graph.setdefault(child, set()).update(others - {child})
    return graph


FOLDERS = ["", *sorted({name.rpartition(".")[0] for name in PATHS if "." in name})]


def test_no_import_cycle_between_files() -> None:
    assert not cycle_in({name: imported_files(name) for name in PATHS})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder or "root")
def test_no_import_cycle_within_a_folder(folder: str) -> None:
    assert not cycle_in(children(folder))


def test_the_cycle_search_finds_cycles() -> None:
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert not cycle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()})


@pytest.mark.parametrize("name", ALL)
def test_stages_import_only_what_they_may(name: str) -> None:
    stage = name.partition(".")[0]
    targets = ALLOWED[stage].union(*(more for package, more in ALLOWED_TO_PACKAGES.items() if is_within(name, package)))
    for imported in imports(name):
        other = imported.partition(".")[0]
        if other in STAGES and other != stage:
            allowed = any(is_within(imported, target) for target in targets)
            is_parent = any(target.startswith(f"{imported}.") for target in targets)
            assert allowed or is_parent, f"{name} must not import {imported}"


@pytest.mark.parametrize("name", ALL)
def test_separate_folders_do_not_import_each_other(name: str) -> None:
    for scope, others in APART.items():
        if is_within(name, scope):
            known = {imported for imported in imports(name) for other in others if is_within(imported, other)}
            assert not known, f"{name} must not import {', '.join(sorted(known))}"


@pytest.mark.parametrize("name", ALL)
def test_stages_do_not_load_heavy_packages(name: str) -> None:
    loaded = {imported.partition(".")[0] for imported in imports(name, top_level_only=True)}
    for scope, packages in NOT_LOADED.items():
        if is_within(name, scope):
            assert not loaded & packages, f"{name} loads {', '.join(sorted(loaded & packages))}"


@pytest.mark.parametrize("scope", [*APART, *ALLOWED_TO_PACKAGES, *NOT_LOADED])
def test_every_rule_names_an_existing_module(scope: str) -> None:
    assert any(is_within(name, scope) for name in PATHS)


@pytest.mark.parametrize("name", ALL)
def test_files_have_at_most_500_lines(name: str) -> None:
    lines = PATHS[name].read_text().count("\n")
    assert lines <= MAX_LINES, f"{name} has {lines} lines"


def mirrored(name: str) -> Path:
    """Where the tests of a module are; those of a package's __init__.py are in the file of the package's name."""
    path = PATHS[name]
    stem = {"__init__": path.parent.name, "__main__": "main"}.get(path.stem, path.stem)
    return Path("tests") / path.parent.relative_to(ROOT) / f"test_{stem}.py"


def has_logic(name: str) -> bool:
    """Whether a module defines anything; an __init__.py often does not."""
    defines = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    is_package = PATHS[name].name == "__init__.py"
    return not is_package or any(isinstance(node, defines) for node in ast.parse(PATHS[name].read_text()).body)


MIRRORED = {name: mirrored(name) for name in PATHS if name.partition(".")[0] in PRODUCT and has_logic(name)}


def test_every_module_with_logic_has_its_test_file_at_the_mirrored_path() -> None:
    missing = {name: str(path) for name, path in MIRRORED.items() if not (ROOT / path).is_file()}
    assert missing.keys() == DECLARATIONS.keys(), missing  # without those that have one by now, or are gone


def test_every_test_file_of_a_stage_mirrors_a_module_or_is_a_known_scenario() -> None:
    begins = tuple(str(path).removesuffix(".py") + end for path in MIRRORED.values() for end in "._")
    files = {str(path.relative_to(ROOT)) for stage in PRODUCT for path in (ROOT / "tests" / stage).rglob("test_*.py")}
    assert {file for file in files if not file.startswith(begins)} == SCENARIOS


@pytest.mark.parametrize("program", ["server", "exporter", "trainer.evaluate"])
def test_programs_turn_off_the_telemetry_of_onnxruntime_before_they_import_it(program: str) -> None:
    script = f"import os, sys, {program}.__main__; print(os.environ.get({TELEMETRY!r}), 'onnxruntime' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != TELEMETRY}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "1 False\n", done.stderr


def test_no_file_is_named_utils_helpers_or_common() -> None:
    assert not [name for name in PATHS if name.rpartition(".")[2] in {"utils", "helpers", "common"}]


def test_stubs_match_the_proto_files(tmp_path: Path) -> None:
    from grpc_tools import protoc

    names = [f"ganserve/v1/{path.name}" for path in (ROOT / "proto" / "ganserve" / "v1").glob("*.proto")]
    flags = [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    code = protoc.main(["", f"--proto_path={ROOT / 'proto'}", *flags, *names])
    assert code == 0
    for fresh in (tmp_path / "ganserve" / "v1").iterdir():
        committed = ROOT / "ganserve" / "v1" / fresh.name
        assert committed.read_text() == fresh.read_text(), f"{committed.name}: run make proto"
