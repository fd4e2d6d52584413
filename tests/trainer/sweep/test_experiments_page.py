"""docs/experiments.md: its commands run, its spec is valid, its table matches sweeps/."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from trainer.report.__main__ import main as report_main
from trainer.sweep.__main__ import main as sweep_main
from trainer.sweep.grid import cells_of
from trainer.sweep.spec import read_spec, with_settings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "experiments.md").read_text()
COMMANDS = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
SPEC = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
MAINS = {"trainer.sweep": sweep_main, "trainer.report": report_main}
CUT_SHORT = ["steps=2", "width=0.05", "batch_size=8", "eval_images=16", "device=cpu"]


@pytest.mark.usefixtures("no_figures", "no_charts")
def test_its_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 2
    for command in COMMANDS:
        python, flag, module, *words = shlex.split(command)
        assert (python, flag) == ("python", "-m")
        if module == "trainer.sweep":
            words += [word for setting in CUT_SHORT for word in ("--set", setting)]
        result = CliRunner().invoke(MAINS[module], words)
        assert result.exit_code == 0, result.output
        assert (Path(words[words.index("--out") + 1])).exists()
    for name in re.findall(r"^\| `([a-z.]+)`(?:, `([a-z.]+)`)? \|", PAGE, re.MULTILINE):
        assert all((tmp_path / "runs" / "e03" / each).is_file() for each in name if each)
    with (tmp_path / "runs" / "e03" / "trials.csv").open(newline="") as file:
        assert [(row["lr"], row["seed"], row["outcome"]) for row in csv.DictReader(file)] == [
            (lr, seed, "finished") for lr in ("0.0001", "0.0002", "0.0003") for seed in ("0", "1")
        ]
    page = (tmp_path / "runs" / "e03" / "report.html").read_text()
    assert "Quick form" in page
    assert "digits at 32x32" in page


def test_its_spec_is_valid(tmp_path: Path) -> None:
    (text,) = SPEC
    (tmp_path / "own.toml").write_text(text)
    assert [cell.name for cell in cells_of(read_spec(tmp_path / "own.toml"))] == [
        "lr 0.0001, narrow",
        "lr 0.0001, wide",
        "lr 0.0004, narrow",
        "lr 0.0004, wide",
    ]


def test_its_table_matches_the_specs() -> None:
    table = re.findall(r"^\| `(e\d\d[ab]?-[a-z-]+)` \| ([^|]+) \| (\d+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert [name for name, *_ in table] == sorted(path.stem for path in (ROOT / "sweeps").glob("*.toml"))
    for name, data, count, length in table:
        spec = read_spec(ROOT / "sweeps" / f"{name}.toml")
        yours = data.startswith("yours")
        assert (spec.base["dataset"] == "") == yours
        if not yours:
            assert data.lower() == spec.base["dataset"]
        cells = cells_of(with_settings(spec, {"dataset": "zip:faces.zip"}) if yours else spec)
        assert len(cells) == int(count)
        epochs = {cell.config.epochs for cell in cells}
        assert {int(number) for number in re.findall(r"\d+", length)} == epochs
