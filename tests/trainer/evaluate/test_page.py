"""docs/evaluation.md: its examples run, and its table matches the catalogue."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from ganserve.metrics import CYCLE_METRICS, GAN_METRICS
from trainer.cache_folder import CACHE_VARIABLE
from trainer.evaluate.__main__ import main

PAGE = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
PROGRAM = "python -m trainer.evaluate "


def commands(language: str) -> list[str]:
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    assert all(line.startswith(PROGRAM) for line in lines)
    return lines


@pytest.mark.parametrize("command", commands("console"))
def test_the_examples_run(
    command: str, address: str, trained_run: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "0001-dcgan-digits").symlink_to(trained_run)
    (tmp_path / "models").symlink_to(models)
    for name in ("model.onnx", "model.pt"):
        shutil.copy(models / "dcgan" / "1" / name, tmp_path)
    words = shlex.split(command.removeprefix(PROGRAM).replace("127.0.0.1:50051", address))
    done = CliRunner().invoke(main, [*words, "--images", "40"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "scores.json").exists() == ("--out" in words)


@pytest.mark.parametrize("command", [*commands("console"), *commands("text")])
def test_flags_in_examples_exist(command: str) -> None:
    known = {option for parameter in main.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", command)) <= known


def test_the_table_of_metrics_matches_the_catalogue() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert rows == [(name, metric.label, metric.better) for name, metric in GAN_METRICS.items()]


def test_metrics_and_settings_of_the_page_exist() -> None:
    assert all(f"`{name}`" in PAGE for name in CYCLE_METRICS)
    assert f"${CACHE_VARIABLE}" in PAGE
