"""Runs the commands of docs/importing.md."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from exporter.__main__ import main
from ganserve import bundle
from tests.exporter.tutorial_files import save_netg, trained_netg

PAGE = (Path(__file__).parents[2] / "docs" / "importing.md").read_text()
COMMANDS = re.findall(r"^\$ python -m exporter (.*)$", PAGE, re.MULTILINE)

MY_NETS = """
from torch import nn


class Generator(nn.Sequential):
    def __init__(self):
        super().__init__(nn.ConvTranspose2d(100, 3, 4, 1, 0), nn.BatchNorm2d(3), nn.Tanh())
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like that of a reader of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    (tmp_path / "my_nets.py").write_text(MY_NETS)
    generator = importlib.import_module("my_nets").Generator()
    save_netg(tmp_path / "netG_epoch_24.pth", trained_netg(ngf=1))
    torch.save(generator.state_dict(), tmp_path / "generator.pth")
    torch.save(generator, tmp_path / "generator.pkl")
    return tmp_path


def test_every_flag_in_the_table_has_an_example() -> None:
    flags = [shlex.split(command)[0] for command in COMMANDS]
    assert flags == ["--tutorial-netg", "--module", "--pickle"]
    assert set(flags) == set(re.findall(r"^\|.*\| `(--[a-z-]+)", PAGE, re.MULTILINE))


def test_the_commands_run(workplace: Path) -> None:
    for command in COMMANDS:
        words = shlex.split(command)
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, f"{command}: {result.output}"
        name = words[words.index("--name") + 1]
        assert bundle.read_card(workplace / "models" / name / "1").name == name


def test_a_pickled_module_is_refused_without_its_flag(workplace: Path) -> None:
    words = [word for word in shlex.split(COMMANDS[2]) if word != "--allow-pickle"]
    assert CliRunner().invoke(main, words).exit_code == 2
    assert not (workplace / "models").exists()
