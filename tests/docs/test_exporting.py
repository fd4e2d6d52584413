"""Checks the commands and names of docs/exporting.md."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from exporter.__main__ import main
from ganserve import bundle

TEXT = (Path(__file__).parents[2] / "docs" / "exporting.md").read_text()
COMMANDS = re.findall(r"^\$ python -m exporter (.*)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_valid(command: str) -> None:
    parameters = main.make_context("exporter", shlex.split(command)).params
    assert Path(parameters["run"]).parts[0] == "runs"


def test_the_files_are_those_of_a_bundle() -> None:
    table = "".join(line for line in TEXT.splitlines() if line.startswith("| `"))
    named = re.findall(r"`([a-z]+\.[a-z]+)`", table)
    assert named == [bundle.ONNX_FILE, bundle.TORCHSCRIPT_FILE, bundle.CARD_FILE, bundle.SAMPLE_FILE]
