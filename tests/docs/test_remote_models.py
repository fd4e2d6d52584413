"""docs/remote-models.md: its commands and flags exist, and what it says about drivers and files is true."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import Final

import click
import pytest

from ganserve.bundle import MAX_GRAPH_BYTES
from ganserve.urls import DRIVERS, is_url
from server.__main__ import main as server
from tests.deploy.manifests import kubernetes, only

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "remote-models.md").read_text()
PROSE: Final = " ".join(re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL).split())
COMMANDS: Final = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
assert isinstance(server, click.Group)
FETCH: Final = server.commands["fetch"]
OURS: Final = [command for command in COMMANDS if command.startswith("python -m server")]


@pytest.mark.parametrize("command", OURS)
def test_our_commands_are_valid(command: str) -> None:
    _, _, _, *words = shlex.split(command)
    program = FETCH if words[0] == "fetch" else server
    assert program.make_context("it", words[words[0] == "fetch" :]).params


def test_there_are_commands() -> None:
    assert len(OURS) == 3


def test_every_flag_on_the_page_exists() -> None:
    known = {flag for program in (server, FETCH) for param in program.params for flag in param.opts}
    assert set(re.findall(r"--[a-z][a-z-]*", PROSE)) <= known


def test_each_flag_of_fetch_is_explained() -> None:
    flags = {flag for param in FETCH.params if isinstance(param, click.Option) for flag in param.opts}
    assert {"--model", "--every"} <= {flag for flag in flags if flag in PAGE}


def test_the_drivers_are_those_that_errors_name_and_the_extras_install() -> None:
    rows = re.findall(r"^\| `(\w+)://[^|]*\| `([\w]+)`(?: \(in `\[(\w+)\]`\))? \|", PAGE, re.MULTILINE)
    assert {protocol: package for protocol, package, _ in rows}.items() <= DRIVERS.items()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    listed = {(package.replace("_", "-"), extra) for _, package, extra in rows if extra}
    assert len(listed) == 3
    for package, extra in listed:
        assert {"fsspec", package} <= {re.split("[>=]", line)[0] for line in extras[extra]}


def test_examples_of_urls_are_urls() -> None:
    assert all(is_url(url) for url in re.findall(r"`(\w+://[^`]*)`", PAGE))


def test_python_on_the_page_can_be_parsed() -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        ast.parse(block)


def test_files_and_links_on_the_page_exist() -> None:
    paths = re.findall(r"`(deploy/[\w./-]+)`", PAGE)
    assert len(paths) >= 3
    assert not [path for path in paths if not (ROOT / path).exists()]
    for page, anchor in re.findall(r"\]\(([\w-]+\.md)(?:#([\w-]+))?\)", PAGE):
        headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_numbers_on_the_page_are_those_of_the_code() -> None:
    assert MAX_GRAPH_BYTES + 1 == 2 << 30
    assert "up to 2 GiB" in PROSE
    pod = only(kubernetes("overlays/fetch-models"), "Deployment")["spec"]["template"]["spec"]
    assert "--every=60" in pod["initContainers"][0]["args"]
    assert "`fetch --every 60`" in PROSE
