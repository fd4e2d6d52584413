"""Trials run once, resume after a stop or a kill, and a failed one does not end the sweep."""

from __future__ import annotations

import csv
import dataclasses
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.trainer.sweep.conftest import TINY, WriteSpec, run, the_error, without_charts
from trainer.config import AnyConfig
from trainer.errors import TrainingDivergedError
from trainer.exits import StopOnSignal
from trainer.runs.collapse import Notice
from trainer.sweep import trials
from trainer.sweep.folder import SweepFolder
from trainer.training import loop
from trainer.training.session import Summary

pytestmark = pytest.mark.usefixtures("no_figures", "no_charts")

TIMES = {"images_per_s", "train_seconds"}


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.relative_to(out)} {name}": tensor
        for path in sorted(out.glob("runs/*/*/*/checkpoints/*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def assert_same(one: Path, other: Path) -> None:
    assert rows(one) == rows(other)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny sweep, run in one go."""
    folder = tmp_path_factory.mktemp("unkilled")
    (folder / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.training.gan.GanTraining.draw_figures", lambda *_: None)
        without_charts(patch)
        result = run(folder / "tiny.toml", "--out", folder / "out")
    assert result.exit_code == 0, result.output
    return folder / "out"


def test_every_cell_is_trained_with_every_seed_as_an_ordinary_run(unkilled: Path) -> None:
    found = rows(unkilled)
    assert [(row["lr"], row["seed"], row["outcome"], row["steps"]) for row in found] == [
        (lr, seed, "finished", "4") for lr in ("0.0001", "0.001") for seed in ("0", "1")
    ]
    assert len({row["end_sliced_wasserstein_distance"] for row in found}) == 4
    for row in found:
        assert (unkilled / row["run"] / "config.json").is_file()
        assert (unkilled / row["run"] / "checkpoints" / "last.safetensors").is_file()


def test_a_finished_sweep_trains_nothing_again(
    unkilled: Path, spec_file: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "train", lambda *_, **__: pytest.fail("trained again"))
    before = rows(unkilled)
    result = run(spec_file(), "--out", unkilled)
    assert result.exit_code == 0, result.output
    assert rows(unkilled) == before


KILLED = """
import os, signal, sys
from trainer.metrics import classifier
from trainer.sweep import command as program
from trainer.sweep.__main__ import main

classifier._MOST_SHOWN = 512  # as in this process

class Stop(program.StopOnSignal):
    asked = 0
    def __call__(self):
        Stop.asked += 1
        if Stop.asked == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

program.StopOnSignal = Stop
main(sys.argv[2:])
"""


def test_a_killed_sweep_continues_to_the_same_result(unkilled: Path, spec_file: WriteSpec, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # A trial polls before it begins and after each of its 4 steps: the 9th poll is after step 3 of the second trial,
    # which has saved step 2.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), "9", str(spec_file()), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "report.html").exists()
    (out / ".0123456789abcdef.tmp").write_bytes(b'{"cell":"lr')  # as a kill during a write leaves it
    assert list(SweepFolder(out).endings()) == [("lr 0.0001", 0)]
    result = run(spec_file(), "--out", out)
    assert result.exit_code == 0, result.output
    assert_same(out, unkilled)
    assert not list(out.glob(".*.tmp"))


def test_a_trial_that_was_killed_before_its_end_was_recorded_is_not_trained_again(
    unkilled: Path, spec_file: WriteSpec, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(unkilled, tmp_path / "out"))
    SweepFolder(out).trials_path.unlink()  # older versions did not write it
    (out / "study.journal").write_bytes(b'{"op_code": 0}\n')
    before = weights(out)
    assert run(spec_file(), "--out", out).exit_code == 0
    assert_same(out, unkilled)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(out).items())


def test_a_stopped_sweep_is_saved_and_continues_to_the_same_result(
    unkilled: Path, spec_file: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False] * 7 + [True])  # in the second trial, after its second step
    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "__call__", lambda _: next(answers, True))
        result = run(spec_file(), "--out", tmp_path / "out")
    assert result.exit_code == 130, result.output
    assert "the same command continues" in result.output
    assert [row["outcome"] for row in rows(tmp_path / "out")] == ["finished", "not begun", "not finished", "not begun"]
    assert run(spec_file(), "--out", tmp_path / "out").exit_code == 0
    assert_same(tmp_path / "out", unkilled)


def test_a_limit_trains_the_first_cells_and_later_runs_add_cells_and_seeds(
    unkilled: Path, spec_file: WriteSpec, tmp_path: Path
) -> None:
    one_seed = spec_file(TINY.replace("seeds = [0, 1]", "seeds = [0]"))
    assert run(one_seed, "--out", tmp_path / "out", "--limit", "1").exit_code == 0
    assert [row["outcome"] for row in rows(tmp_path / "out")] == ["finished", "not begun"]
    assert run(spec_file(), "--out", tmp_path / "out").exit_code == 0
    assert_same(tmp_path / "out", unkilled)


@pytest.mark.slow
def test_a_sweep_continues_with_pictures_that_moved_and_refuses_others(spec_file: WriteSpec, tmp_path: Path) -> None:
    old, new, out = tmp_path / "old", tmp_path / "new", tmp_path / "out"
    old.mkdir()
    for index in range(18):
        Image.effect_noise((16, 16), 20 + 10 * index).save(old / f"{index:02}.png")
    spec = TINY.replace('"digits"\nwidth', f'"folder:{old}"\nwidth').replace("[1e-4, 1e-3]", "[1e-4]")
    spec = spec.replace("seeds = [0, 1]", "seeds = [0]")
    assert run(spec_file(spec), "--out", out).exit_code == 0
    before = weights(out)
    old.rename(new)
    assert "no such folder or zip file; if it has moved, say where it is with --set dataset=PATH" in the_error(
        run(spec_file(spec), "--out", out)
    )
    more = spec_file(spec.replace("seeds = [0]", "seeds = [0, 1]"))
    moved = run(more, "--out", out, "--set", f"dataset={new}")
    assert moved.exit_code == 0, moved.output
    assert [row["outcome"] for row in rows(out)] == ["finished"] * 2
    assert all(torch.equal(tensor, weights(out)[name]) for name, tensor in before.items())
    Image.new("L", (16, 16)).save(new / "00.png")
    new.rename(tmp_path / "third")
    assert "are not those that this sweep began with" in the_error(
        run(more, "--out", out, "--set", f"dataset={tmp_path / 'third'}")
    )


def failing(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Makes the trial with the larger rate fail."""
    train = loop.train

    def fail(config: AnyConfig, *arguments: Any, **options: Any) -> Summary:
        if config.generator_lr < 1e-3:
            return train(config, *arguments, **options)
        if how == "diverged":
            raise TrainingDivergedError("step 3: a loss is NaN or infinite")
        summary = train(config, *arguments, **options)
        return dataclasses.replace(summary, given_up=True, notices=(Notice(3, "samples-alike", "they are all alike"),))

    monkeypatch.setattr(trials, "train", fail)


@pytest.mark.parametrize(("how", "text"), [("diverged", "a loss is NaN"), ("given up", "they are all alike")])
def test_a_failed_trial_is_recorded_and_the_sweep_continues(
    how: str, text: str, spec_file: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, how)
    out = tmp_path / "out"
    for _ in range(2):  # the second time, it is not tried again
        result = run(spec_file(TINY.replace("[1e-4, 1e-3]", "[1e-3, 1e-4]")), "--out", out)
        assert result.exit_code == 0, result.output
        assert [row["outcome"] for row in rows(out)] == [how, how, "finished", "finished"]
    assert rows(out)[0]["end_step"] == ""
    page = (out / "report.html").read_text()
    assert page.count(text) >= 2
    endings = [each.outcome for each in SweepFolder(out).endings().values()]
    assert endings == [how, "finished", how, "finished"]


def test_a_run_with_other_settings_is_not_resumed(unkilled: Path, spec_file: WriteSpec, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(unkilled, out)
    (out / "trials.jsonl").unlink()
    (config,) = out.glob("runs/lr-0.0001/seed-0/*/config.json")
    config.write_text(config.read_text().replace('"batch_size": 16', '"batch_size": 8'))
    assert "not a run of this sweep" in the_error(run(spec_file(), "--out", out))
