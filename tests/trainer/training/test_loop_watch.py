"""What the loop does when a run stops making progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from tests.trainer.conftest import StopAfter, made_up_images, run_training, small_config
from trainer.__main__ import main
from trainer.command import EXIT_GIVEN_UP
from trainer.config import AnyConfig, override
from trainer.progress import Progress
from trainer.runs import collapse as watch
from trainer.runs.run_folder import RunFolder
from trainer.runs.verdict import VERDICTS
from trainer.training.gan import GanTraining
from trainer.training.gan_step import StepResult, train_step
from trainer.training.loop import train

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discriminators that are always right, and a watch that loses patience after 5 steps and an epoch of 18 images."""

    def always_right(*arguments: Any) -> StepResult:
        result = train_step(*arguments)
        return StepResult(**(vars(result) | {"accuracy": torch.tensor(1.0)}))

    monkeypatch.setattr("trainer.training.gan.train_step", always_right)
    monkeypatch.setattr(watch, "LONG_STEPS", 5)


def config_of(**settings: object) -> AnyConfig:
    smaller: dict[str, object] = {"network.image_size": 16, "network.latent_dim": 8, "network.width": 1 / 32}
    return small_config("dcgan", "dcgan-digits", steps=12, **smaller, **settings)


def rows(run: RunFolder, *kinds: str) -> list[dict[str, Any]]:
    """Without what depends on the clock."""
    return [row | {"images_per_s": None} for row in run.metrics.read() if not kinds or row["kind"] in kinds]


@pytest.mark.usefixtures("certain")
def test_a_warning_is_said_and_recorded_once_and_the_training_goes_on(tmp_path: Path, quiet: Progress) -> None:
    run, summary = run_training(config_of(), tmp_path, quiet)
    assert (summary.step, summary.given_up) == (12, False)
    (row,) = (row for row in rows(run, "warning") if row["name"] in watch.NOTICES)
    assert (row["step"], row["name"]) == (6, "discriminator-wins")  # 24 images; 20 are not an epoch after the first 4
    assert summary.notices[0].text == row["text"]
    said: str = quiet.console.file.getvalue()  # type: ignore[attr-defined]
    assert " ".join(said.split()).count(f"warning: step 6: {row['text']}") == 1


@pytest.mark.usefixtures("certain")
def test_a_warning_stands_right_after_the_row_it_is_about(tmp_path: Path, quiet: Progress) -> None:
    run, _ = run_training(config_of(), tmp_path, quiet)
    kinds = [(row["kind"], row["step"]) for row in rows(run, "step", "warning")]
    assert kinds[5:8] == [("step", 6), ("warning", 6), ("step", 7)]


@pytest.mark.usefixtures("certain")
@pytest.mark.parametrize("interval", [1, 4])
def test_a_training_that_is_to_stop_does_so_with_a_checkpoint_when_it_is_noticed(
    interval: int, tmp_path: Path, quiet: Progress
) -> None:
    config = config_of(on_collapse="stop", log_every_steps=interval)
    run, summary = run_training(config, tmp_path, quiet)
    noticed_at = -(-6 // interval) * interval
    assert (summary.step, summary.given_up, summary.interrupted) == (noticed_at, True, False)
    assert run.read_metadata().step == noticed_at
    assert (run.samples / f"step-{noticed_at:08d}.png").is_file()
    assert train(config, run, made_up_images(config), quiet, resume=True).step == 12  # if the user insists


@pytest.mark.usefixtures("certain")
@pytest.mark.parametrize("stop", [3, 5, 6, 7, 10])
def test_an_interruption_changes_nothing_of_what_is_noticed(
    stop: int, tmp_path: Path, quiet: Progress, stop_after: StopAfter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Samples that become alike, then different, then alike.
    shares = {4: 0.9, 5: 0.01, 8: 0.01, 9: 0.5, 12: 0.01}
    monkeypatch.setattr(GanTraining, "sample_spread", lambda training: shares.get(training.state.step, 0.01))
    config = config_of(checkpoint_every_steps=4)
    whole, summary = run_training(config, tmp_path / "whole", quiet)
    noticed = [notice.name for notice in summary.notices]
    assert [name for name in noticed if name in watch.NOTICES] == ["discriminator-wins", "samples-alike"]
    parts = RunFolder.create(tmp_path / "parts", config)
    train(config, parts, made_up_images(config), quiet, stop_requested=stop_after(stop))
    again = train(config, parts, made_up_images(config), quiet, resume=True)
    assert again.notices == summary.notices
    kinds = ("step", "warning", "samples")
    assert rows(parts, *kinds) == rows(whole, *kinds)


def test_samples_that_have_become_alike_are_told_before_the_checkpoint_of_that_step(
    tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GanTraining, "sample_spread", lambda training: 0.9 if training.state.step == 4 else 0.01)
    run, summary = run_training(config_of(checkpoint_every_steps=4, on_collapse="stop"), tmp_path, quiet)
    assert [(notice.step, notice.name) for notice in summary.notices] == [(8, "samples-alike")]  # 5 is an epoch
    assert (summary.step, summary.given_up) == (8, True)
    assert run.read_metadata().step == 8


@pytest.mark.parametrize(("model", "preset"), [("pggan", "pggan-small"), ("cyclegan", "cyclegan-digits")])
def test_every_kind_of_training_records_how_different_its_samples_are(
    model: str, preset: str, tmp_path: Path, quiet: Progress
) -> None:
    run, _ = run_training(small_config(model, preset), tmp_path, quiet)
    measured = rows(run, "samples")
    assert [row["step"] for row in measured] == [int(path.stem[5:]) for path in sorted(run.samples.iterdir())]
    assert all(row["sample_spread"] > 0 for row in measured)


@pytest.mark.usefixtures("certain")
def test_the_command_line_has_an_exit_code_of_its_own_for_it(tmp_path: Path) -> None:
    flags = ["--model", "dcgan", "--steps", "40", "--width", "0.05", "--batch-size", "256"]
    flags += ["--eval-images", "16", "--device", "cpu"]
    result = CliRunner().invoke(main, [*flags, "--on-collapse", "stop", "--out", str(tmp_path)])
    assert result.exit_code == EXIT_GIVEN_UP, result.output
    folder = Path(result.stdout.splitlines()[-1])
    assert f"continue anyway with: python -m trainer --resume {folder}" in result.stdout
    assert "try a smaller --discriminator-lr" in result.stdout
    resumed = CliRunner().invoke(main, ["--resume", str(folder), "--steps", "41"])
    assert resumed.exit_code == 0, resumed.output
    assert override(RunFolder.open(folder).read_config(), {}).on_collapse == "stop"


def judged(run: RunFolder) -> list[tuple[int, str]]:
    return [(row["step"], row["name"]) for row in rows(run, "warning") if row["name"] in VERDICTS]


@pytest.mark.parametrize("on_collapse", ["warn", "stop"])
def test_a_finished_run_far_from_real_images_gets_a_warning_and_is_not_given_up(
    on_collapse: str, tmp_path: Path, quiet: Progress
) -> None:
    run, summary = run_training(config_of(on_collapse=on_collapse), tmp_path, quiet)
    assert (12, "far-from-real") in judged(run)
    assert [(notice.step, notice.name) for notice in summary.notices] == judged(run)
    assert (summary.step, summary.given_up, summary.interrupted) == (12, False, False)


def test_the_verdict_is_the_same_after_a_resume_and_is_made_anew_at_a_later_end(
    tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = config_of()
    straight, _ = run_training(config, tmp_path, quiet)
    stopped = RunFolder.create(tmp_path, config)
    train(config, stopped, made_up_images(config), quiet, stop_requested=stop_after(7))
    assert judged(stopped) == []
    for _ in range(2):  # the second time, nothing is left to train
        summary = train(config, stopped, made_up_images(config), quiet, resume=True)
        assert rows(stopped, "warning", "floor", "evaluation") == rows(straight, "warning", "floor", "evaluation")
        assert [(notice.step, notice.name) for notice in summary.notices] == judged(straight)
    longer = override(config, {"steps": 14})
    train(longer, stopped, made_up_images(longer), quiet, resume=True)
    assert {step for step, _ in judged(stopped)} == {14}
