"""docs/training.md: its commands run, and its tables match the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from trainer.__main__ import main
from trainer.runs.collapse import NOTICES
from trainer.runs.run_folder import RunFolder
from trainer.runs.verdict import VERDICTS

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
PROGRAM = "python -m trainer "
COMMANDS = re.findall(rf"^(?:\$ )?{PROGRAM}(.*)$", PAGE, re.MULTILINE)
FROM_A_RUN = ("--config", "--init-from")
ALONE = [command for command in COMMANDS if not {"--resume", "--wandb", *FROM_A_RUN} & set(shlex.split(command))]
SHORT = ["--width", "0.05", "--batch-size", "8"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-pictures").mkdir()
    for index in range(9):
        Image.effect_noise((40, 40), 20 + 10 * index).save(tmp_path / "my-pictures" / f"{index}.png")


def train(command: str, steps: int) -> Path:
    """Runs a command with narrow networks and few steps; returns its run folder."""
    words = shlex.split(command)
    for flag, value in (("--steps", steps), ("--eval-images", 40)):
        if flag in words:
            words[words.index(flag) + 1] = str(value)
        elif flag == "--steps":
            words += [flag, str(value)]
    result = CliRunner().invoke(main, words if "--resume" in words else [*words, *SHORT])
    assert result.exit_code == 0, f"{command}: {result.output}"
    return Path(result.output.splitlines()[-1])


# PyTorch's compiler looks at .grad of the fakes itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.usefixtures("no_figures", "only_captured", "classifier_cache")
@pytest.mark.parametrize("command", ALONE)
def test_the_examples_train(command: str) -> None:
    RunFolder.open(train(command, 2)).read_config()


@pytest.mark.usefixtures("no_figures")
def test_the_resumed_run_equals_a_longer_run_bit_for_bit() -> None:
    (resume,) = (command for command in COMMANDS if "--resume" in command)
    begun = train(COMMANDS[COMMANDS.index(resume) - 1], 2)
    assert train(resume, 4) == begun
    whole = train(COMMANDS[COMMANDS.index(resume) - 1], 4)
    resumed, uninterrupted = (load_file(run / "checkpoints" / "last.safetensors") for run in (begun, whole))
    assert resumed.keys() == uninterrupted.keys()
    assert all(torch.equal(resumed[name], uninterrupted[name]) for name in resumed)


@pytest.mark.usefixtures("no_figures")
def test_a_new_run_starts_from_the_one_before() -> None:
    begin, settings, weights = COMMANDS[(first := COMMANDS.index(next(filter(starts, COMMANDS)))) - 1 : first + 2]
    begun = train(begin, 2)
    dry = CliRunner().invoke(main, shlex.split(settings))
    assert dry.exit_code == 0, dry.output
    assert '"seed": 4' in dry.output
    assert RunFolder.open(train(weights, 2)).read_config().init_from == str(begun.absolute())


def starts(command: str) -> bool:
    return any(flag in command for flag in FROM_A_RUN)


def test_the_table_of_files_matches_a_run_folder(tmp_path: Path) -> None:
    for folder in ("trainA", "trainB"):
        (tmp_path / "domains" / folder).mkdir(parents=True)
        for index in range(8):
            Image.effect_noise((32, 32), 20 + 10 * index).save(tmp_path / "domains" / folder / f"{index}.png")
    runs = [train("--model gan", 2), train("--model cyclegan --dataset folder:domains --keep-epochs 1", 2)]
    left = {
        re.sub("epoch-0*[1-9]", "epoch-0007", str(path.relative_to(run)))
        for run in runs
        for path in [*run.iterdir(), *(run / "checkpoints").iterdir()]
    }
    documented = re.findall(r"^\| `([a-z0-9/.-]*[/.][a-z0-9/.-]*)` \|", PAGE, re.MULTILINE)
    assert {name.rstrip("/") for name in documented} == (left - {"checkpoints"}) | {"evaluations.jsonl"}


def test_the_tables_of_warnings_match_the_code() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)) == {*NOTICES, *VERDICTS}


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_in_examples_exist(command: str) -> None:
    known = {option for parameter in main.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert set(re.findall(r"--[a-z-]+", command)) <= known
