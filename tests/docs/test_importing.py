"""Runs the commands of docs/importing.md."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import fsspec
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save

from exporter.__main__ import main
from ganserve import bundle
from ganserve.latents import DISTRIBUTIONS
from tests.exporter.tutorial_files import save_netg, trained_netg

PAGE = (Path(__file__).parents[2] / "docs" / "importing.md").read_text()
COMMANDS = re.findall(r"^\$ python -m exporter (.*)$", PAGE, re.MULTILINE)

MY_NETS = """
from torch import nn


class Generator(nn.Sequential):
    def __init__(self):
        super().__init__(nn.ConvTranspose2d(100, 3, 4, 1, 0), nn.BatchNorm2d(3), nn.Tanh())


class SigmoidGenerator(nn.Sequential):
    def __init__(self):
        super().__init__(nn.ConvTranspose2d(100, 3, 4, 1, 0), nn.Sigmoid())
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like that of a reader of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    (tmp_path / "my_nets.py").write_text(MY_NETS)
    my_nets = importlib.import_module("my_nets")
    generator = my_nets.Generator()
    save_netg(tmp_path / "netG_epoch_24.pth", trained_netg(ngf=1))
    torch.save(generator.state_dict(), tmp_path / "generator.pth")
    torch.save(generator, tmp_path / "generator.pkl")
    torch.save({"netG": generator.state_dict(), "netD": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "checkpoint.pth")
    torch.save(my_nets.SigmoidGenerator().state_dict(), tmp_path / "sigmoid.pth")
    fsspec.filesystem("memory").pipe("/user/repository/generator.safetensors", save(generator.state_dict()))
    return tmp_path


def run(command: str) -> Result:
    """Runs an example; the Hub is a file system in memory."""
    return CliRunner().invoke(main, shlex.split(command.replace("hf://", "memory://")))


def test_every_flag_in_the_table_has_an_example() -> None:
    flags = {word for command in COMMANDS for word in shlex.split(command) if word.startswith("--")}
    sources = set(re.findall(r"^\|.*\| `(--[a-z-]+) ", PAGE, re.MULTILINE))
    assert sources == {"--tutorial-netg", "--module", "--pickle"}
    assert sources <= flags


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(command: str, workplace: Path) -> None:
    result = run(command)
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr.replace("warning: loading generator.pkl runs the code inside it", "")
    words = shlex.split(command)
    name = words[words.index("--name") + 1]
    assert bundle.read_card(workplace / "models" / name / "1").name == name


def example_of(flag: str) -> str:
    examples: list[str] = [command for command in COMMANDS if flag in command]
    (command,) = examples
    return command


def test_a_pickled_module_is_refused_without_its_flag(workplace: Path) -> None:
    assert run(example_of("--pickle").replace("--allow-pickle", "")).exit_code == 2
    assert not (workplace / "models").exists()


@pytest.mark.usefixtures("workplace")
def test_without_its_range_the_sigmoid_is_doubted() -> None:
    result = run(example_of("--value-range").replace("--value-range 0 1", ""))
    (line,) = (line for line in result.stderr.splitlines() if "warning" in line)
    assert line.endswith("all pixels are in 128 .. 255; if the network ends in a sigmoid, add --value-range 0 1")


def test_the_prior_of_the_example_is_on_the_card(workplace: Path) -> None:
    assert run(example_of("--latent-prior")).exit_code == 0
    card = bundle.read_card(workplace / "models" / "uniform" / "1")
    assert card.input == bundle.LatentInput(latent_dim=100, distribution="uniform")


def test_the_table_of_priors_is_complete() -> None:
    rows = PAGE[PAGE.index("| `--latent-prior` |") :].partition("\n\n")[0].splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(DISTRIBUTIONS)


@pytest.mark.usefixtures("workplace")
def test_the_checkpoint_of_the_example_says_what_was_taken() -> None:
    command, chosen = (command for command in COMMANDS if "checkpoint.pth" in command)
    assert "--weights checkpoint.pth: took netG, which fits the module" in run(command).stderr.splitlines()
    assert "took" not in run(chosen).stderr


def test_the_subclass_that_scales_takes_numbers_from_0_to_1(workplace: Path) -> None:
    (source,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "class Scaled" in block)
    (workplace / "scaled.py").write_text(source)
    plain = importlib.import_module("my_nets").Generator().eval()
    scaled = importlib.import_module("scaled").Scaled().eval()
    scaled.load_state_dict(plain.state_dict())
    latents = torch.rand(2, 100, 1, 1)
    torch.testing.assert_close(scaled(latents * 2 - 1), plain(latents))
