"""Trials through Optuna: run once, resumed after a stop or a kill, and a failed one does not end the sweep."""

from __future__ import annotations

import csv
import dataclasses
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.sweep.conftest import TINY, WriteSpec, run, the_error, without_charts
from trainer.config import AnyConfig
from trainer.errors import TrainingDivergedError
from trainer.exits import StopOnSignal
from trainer.runs.collapse import Notice
from trainer.sweep import folder as sweep_folder
from trainer.sweep import trials
from trainer.sweep.folder import SweepFolder, ended
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


def test_every_cell_is_trained_under_every_seed_as_an_ordinary_run(unkilled: Path) -> None:
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
from trainer.sweep import __main__ as program

class Stop(program.StopOnSignal):
    asked = 0
    def __call__(self):
        Stop.asked += 1
        if Stop.asked == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

program.StopOnSignal = Stop
program.main(sys.argv[2:])
"""


# A trial asks once before it begins, and after each of its 4 steps; it saves at steps 2 and 4.
@pytest.mark.parametrize("asked", [9])
def test_a_killed_sweep_that_goes_on_ends_as_one_that_was_not(
    asked: int, unkilled: Path, spec_file: WriteSpec, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(asked), str(spec_file()), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "report.html").exists()
    # What a kill within one of Optuna's own writes leaves as well: its lock, and half a line.
    (out / "study.journal.lock").symlink_to("study.journal")
    with (out / "study.journal").open("ab") as journal:
        journal.write(b'{"op_code": 5, "wor')
    result = run(spec_file(), "--out", out)
    assert result.exit_code == 0, result.output
    assert_same(out, unkilled)
    assert not (out / "study.journal.lock").is_symlink()


def test_a_stop_saves_says_how_to_go_on_and_going_on_ends_the_same(
    unkilled: Path, spec_file: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False] * 7 + [True])  # in the second trial, after its second step
    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "__call__", lambda _: next(answers, True))
        result = run(spec_file(), "--out", tmp_path / "out")
    assert result.exit_code == 130, result.output
    assert "the same command goes on from here" in result.output
    assert [row["outcome"] for row in rows(tmp_path / "out")] == ["finished", "not begun", "not finished", "not begun"]
    assert run(spec_file(), "--out", tmp_path / "out").exit_code == 0
    assert_same(tmp_path / "out", unkilled)


def test_a_limit_trains_the_first_cells_and_the_others_and_more_seeds_come_later(
    unkilled: Path, spec_file: WriteSpec, tmp_path: Path
) -> None:
    one_seed = spec_file(TINY.replace("seeds = [0, 1]", "seeds = [0]"))
    assert run(one_seed, "--out", tmp_path / "out", "--limit", "1").exit_code == 0
    assert [row["outcome"] for row in rows(tmp_path / "out")] == ["finished", "not begun"]
    assert run(spec_file(), "--out", tmp_path / "out").exit_code == 0
    assert_same(tmp_path / "out", unkilled)


def failing(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Makes the training at the larger rate end badly."""
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
def test_a_training_that_fails_is_recorded_and_the_sweep_goes_on(
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
    assert [trial.user_attrs["outcome"] for trial in ended(SweepFolder(out).study()).values()].count(how) == 2


def test_two_processes_do_not_work_on_one_sweep(spec_file: WriteSpec, tmp_path: Path) -> None:
    with SweepFolder(tmp_path / "out").locked():
        assert "another sweep is at work in it" in the_error(run(spec_file(), "--out", tmp_path / "out"))


def test_a_folder_of_another_sweep_is_left_alone(unkilled: Path, spec_file: WriteSpec) -> None:
    before = (unkilled / "sweep.json").read_bytes()
    assert "holds another sweep" in the_error(run(spec_file(), "--out", unkilled, "--set", "width=0.1"))
    assert (unkilled / "sweep.json").read_bytes() == before


def test_a_run_that_the_sweep_did_not_begin_is_not_gone_on_with(spec_file: WriteSpec, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(spec_file(), "--out", out, "--limit", "1").exit_code == 0
    (out / "study.journal").unlink()
    (config,) = out.glob("runs/lr-0.0001/seed-0/*/config.json")
    config.write_text(config.read_text().replace('"batch_size": 16', '"batch_size": 8'))
    assert "is not the run that this sweep began" in the_error(run(spec_file(), "--out", out))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("study.journal", b'{"op_code": 99}\n', "damaged"),
        ("study.journal", b"\xff\xfe\n", "damaged"),
        ("study.journal", b"[]\n", "damaged"),
        ("sweep.json", b"[" * 100_000, "not the folder of a sweep"),
        ("sweep.json", b"{}", "not the folder of a sweep"),
    ],
)
def test_damaged_files_of_a_sweep_are_told_in_one_line(
    name: str, content: bytes, message: str, spec_file: WriteSpec, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(content)
    assert message in the_error(run(spec_file(), "--out", out))


def test_without_locks_of_the_system_a_sweep_runs_all_the_same(
    spec_file: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_folder, "fcntl", None)
    assert run(spec_file(), "--out", tmp_path / "out", "--limit", "1").exit_code == 0
