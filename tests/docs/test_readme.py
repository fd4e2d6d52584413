"""README is correct: its commands run, its table matches the registry, and its links resolve."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from scripts.presets_table import with_table
from tests.docs.commands import commands, run
from tests.end_to_end.conftest import running_server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = commands(README)
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SERVER = "python -m server"
PAGES = [path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))]

# The module and weights of README's "anyone's generator".
MY_NETS = """
from torch import nn


class Generator(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.ConvTranspose2d(100, 8, 4, 1, 0),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 3, 4, 2, 1),
            nn.Tanh(),
        )
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of a reader of README: some images, and a module with weights."""
    folder = tmp_path_factory.mktemp("readme")
    for name, images in (("faces", 130), ("pictures", 3), ("emoji/trainA", 4), ("emoji/trainB", 4)):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            Image.new("RGB", (48, 48), (index, 90, 90)).save(folder / name / f"{index}.png")
    (folder / "my_nets.py").write_text(MY_NETS)
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(compile(MY_NETS, "my_nets.py", "exec"), namespace)
    torch.save(namespace["Generator"]().state_dict(), folder / "generator.pth")
    return folder


@pytest.fixture(scope="module")
def address(workplace: Path) -> Iterator[str]:
    """README's server, once the commands before it have run."""
    for command in COMMANDS[: COMMANDS.index(SERVER)]:
        done = run(command, workplace)
        assert done.exit_code == 0, f"{command}: {done.stderr}"
    with running_server(workplace / "models") as server:
        yield server.address


@pytest.mark.timeout(600)  # for all commands; guards against one that hangs
def test_the_commands_before_the_server_run_and_their_models_are_served(address: str, workplace: Path) -> None:
    listed = run("ganclient models", workplace, address).stdout
    assert "dcgan" in listed
    assert "mine" in listed


@pytest.mark.parametrize("command", COMMANDS[COMMANDS.index(SERVER) + 1 :])
def test_the_commands_after_the_server_run(command: str, address: str, workplace: Path) -> None:
    done = run(command, workplace, address)
    assert done.exit_code == 0, done.stderr
    words = shlex.split(command)
    for flag in {"--out", "--grid"} & set(words):
        assert (workplace / words[words.index(flag) + 1]).exists()


@pytest.mark.parametrize("block", PYTHON_BLOCKS)
def test_the_python_examples_run(block: str, address: str) -> None:
    namespace: dict[str, object] = {}
    exec(compile(block.replace("127.0.0.1:50051", address), "README.md", "exec"), namespace)
    assert getattr(namespace["images"], "shape", None) == (16, 32, 32, 1)


def test_the_quickstart_commands_are_among_those_that_run() -> None:
    (quickstart,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    install, *lines = (line.partition("#")[0].strip() for line in quickstart.splitlines())
    assert install == "make install && . .venv/bin/activate"
    assert len(lines) == 4
    assert set(lines) <= set(COMMANDS)


def test_every_program_has_an_example() -> None:
    for program in (
        "python -m trainer",
        "python -m trainer.evaluate",
        "python -m trainer.report",
        "python -m exporter",
        "python -m server",
        "ganclient grid",
        "ganclient models",
        "ganclient translate",
    ):
        assert any(command.startswith(program) for command in COMMANDS)


def test_the_table_of_presets_matches_the_registry() -> None:
    assert with_table(README) == README, "run: python -m scripts.presets_table"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_between_pages_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert (ROOT / page.parent / target).exists(), f"{page} links to {target}"


def test_every_preset_is_explained() -> None:
    from trainer.presets import PRESETS

    explained = (ROOT / "docs" / "presets.md").read_text()
    assert not [name for _, name in PRESETS if f"`{name}`" not in explained]
