"""The command line: flags, output and errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from trainer.__main__ import main
from trainer.config import AnyConfig
from trainer.errors import TrainingDivergedError
from trainer.presets import MODELS
from trainer.runs.run_folder import RunFolder
from trainer.training.loop import train
from trainer.training.session import Summary

TINY = ["--width", "0.05", "--batch-size", "8", "--eval-images", "16", "--device", "cpu"]
WITH_A_BRIEF_CLASSIFIER = """
from trainer.__main__ import main
from trainer.metrics import classifier
classifier._MOST_SHOWN = 512  # as in this process
main()
"""
LIMIT_S = 200  # generous even on a slow, shared CPU


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def the_error(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model is missing: choose one of gan, dcgan, wgan"),
        (["--model", "vae"], "--model 'vae': choose one of gan, dcgan, wgan, wgan-gp, wgan-div, pggan, cyclegan, all"),
        (["--model", "dcgan", "--preset", "nope"], "--preset 'nope': the presets of dcgan are dcgan-digits"),
        (["--model", "dcgan", "--dataset", "imagenet"], "--dataset 'imagenet': choose one of digits"),
        (["--model", "dcgan", "--preset", "dcgan64-k4"], "--dataset: preset 'dcgan64-k4' has no data set of its own"),
        (
            ["--model", "dcgan", "--image-size", "50"],
            "--image-size 50: dcgan-k4 makes images with sides of 3 to 8 times",
        ),
        (["--model", "dcgan", "--batch-size", "1798"], "--batch-size 1798: digits has only 1797 images"),
        (["--model", "dcgan", "--batch-size", "0"], "--batch-size: expected `int` >= 1"),
        (["--model", "dcgan", "--batch-size", "1"], "--batch-size 1: batch statistics need at least 2 images"),
        (["--model", "cyclegan", "--batch-size", "867"], "--batch-size 867: domain B of digits has only 866"),
        (["--model", "dcgan", "--optimizer", "lion"], "--optimizer: invalid enum value 'lion'"),
        (["--model", "dcgan", "--steps", "3", "--epochs", "3"], "--epochs and --steps: give one of them"),
        (["--model", "pggan", "--steps", "3", "--images", "3"], "--steps and --images: give one of them"),
        (["--model", "dcgan", "--steps", "0"], "--steps: expected `int` >= 1"),
        (["--model", "dcgan", "--images", "0"], "--images: expected `int` >= 1"),
        (["--model", "dcgan", "--fade-images", "9"], "--fade-images: dcgan (dcgan-digits) has no such setting"),
        (["--model", "cyclegan", "--fade-images", "9"], "--fade-images: cyclegan (cyclegan-digits) has no such"),
        (["--model", "cyclegan", "--latent-dim", "9"], "--latent-dim: cyclegan (cyclegan-digits) has no such setting"),
        (["--model", "all", "--pool-images", "9"], "--pool-images: gan (gan-digits) has no such setting"),
        (
            ["--model", "pggan", "--image-size", "48"],
            "--image-size 48: pggan makes images with equal sides of a power of two",
        ),
        (["--model", "pggan", "--stabilise-images", "0"], "--stabilise-images: expected `int` >= 1"),
        (
            ["--model", "cyclegan", "--image-size", "30"],
            "--image-size 30: cyclegan-resnet translates images with sides of multiples of 4",
        ),
        (["--model", "cyclegan", "--domains", "a", "a"], "--domains: both bundles would be named"),
        (["--model", "cyclegan", "--domains", "..", "b"], "--domains: expected `str` matching regex"),
        (["--model", "dcgan", "--clip-value", "1"], "--clip-value: dcgan (dcgan-digits) has no such setting"),
        (["--model", "wgan-gp", "--div-k", "9"], "--div-k: wgan-gp (wgan-gp-digits) has no such setting"),
        (["--model", "pggan", "--critic-norm", "none"], "--critic-norm: pggan (pggan-small) has no such setting"),
        (["--model", "dcgan", "--lr", "-1"], "--lr: expected `float` > 0"),
        (["--model", "all", "--preset", "dcgan-digits"], "--preset goes with one model"),
        (["--model", "dcgan", "--dataset", "folder:/nowhere/at/all"], "no such folder"),
        (["--model", "cyclegan", "--dataset", "cifar10"], "--dataset cifar10: is one domain; give digits"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_flag_and_exits_with_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    assert message in the_error(run(*arguments, "--out", str(tmp_path / "runs")))
    assert not list(tmp_path.rglob("config.json"))


def test_resuming_a_folder_that_is_not_a_run_is_an_error(tmp_path: Path) -> None:
    assert "not a run folder" in the_error(run("--resume", str(tmp_path)))


def test_an_out_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "--out" in the_error(run("--model", "dcgan", *TINY, "--out", str(tmp_path / "file")))


def test_a_dry_run_prints_the_resolved_config_and_writes_nothing(tmp_path: Path) -> None:
    result = run(
        "--model", "wgan-gp", "--lr", "0.001", "--gp-weight", "5", "--dry-run", "--out", str(tmp_path / "runs")
    )
    config = json.loads(result.stdout)
    assert (config["generator_lr"], config["discriminator_lr"], config["gp_weight"]) == (0.001, 0.001, 5)
    assert config["dataset"] == "digits"
    assert list(tmp_path.iterdir()) == []


def test_the_flags_of_models_that_grow_or_translate_reach_their_settings() -> None:
    growing = json.loads(
        run(
            *("--model", "pggan", "--stabilise-images", "100", "--fade-images", "50", "--images", "500"),
            *("--drift", "0.5", "--dry-run"),
        ).stdout
    )
    assert (growing["growth"]["stabilise_images"], growing["growth"]["fade_images"]) == (100, 50)
    assert (growing["kind"], growing["images"], growing["drift"]) == ("gan", 500, 0.5)
    assert growing["epochs"] is growing["steps"] is None
    cycle = json.loads(
        run(
            *("--model", "cyclegan", "--domains", "ink", "chalk", "--cycle-weight", "4", "--identity-weight", "0"),
            *("--pool-images", "7", "--residual-blocks", "2", "--keep-epochs", "3", "--dry-run"),
        ).stdout
    )
    assert (cycle["kind"], cycle["domains"]) == ("cycle", ["ink", "chalk"])
    assert (cycle["cycle_weight"], cycle["identity_weight"], cycle["pool_images"]) == (4, 0, 7)
    assert (cycle["network"]["residual_blocks"], cycle["keep_epochs"]) == (2, 3)


def test_a_dry_run_of_all_models_prints_each(tmp_path: Path) -> None:
    output = run("--model", "all", "--dry-run").stdout
    assert [line for line in output.splitlines() if '"model"' in line] == [f'  "model": "{name}",' for name in MODELS]


def test_training_ends_with_the_next_command_and_the_run_folder(tmp_path: Path) -> None:
    result = run("--model", "dcgan", "--steps", "2", *TINY, "--out", str(tmp_path / "runs"))
    assert result.exit_code == 0, result.output
    folder = Path(result.stdout.splitlines()[-1])
    assert (folder / "config.json").is_file()
    assert f"python -m exporter {folder}" in result.stdout
    assert json.loads((folder / "config.json").read_text())["batch_size"] == 8


@pytest.mark.usefixtures("no_figures")
def test_all_models_are_trained_in_turn_and_summarised(tmp_path: Path) -> None:
    result = run("--model", "all", "--steps", "2", *TINY, "--out", str(tmp_path / "runs"))
    assert result.exit_code == 0, result.output
    picture, *folders = sorted((tmp_path / "runs").iterdir(), key=lambda path: (path.is_dir(), path))
    assert [folder.name for folder in folders] == [f"{n:04d}-{name}-digits" for n, name in enumerate(MODELS, 1)]
    assert f"all models side by side: {picture}" in result.stdout
    assert result.stdout.splitlines()[-1] == str(folders[-1])
    table = result.stdout[result.stdout.index("Trained runs") :]
    assert all(name in table for name in MODELS)


@pytest.mark.parametrize("flag", ["--width", "--n-critic", "--model", "--seed", "--out"])
def test_resuming_refuses_flags_that_would_change_the_run(flag: str, tmp_path: Path) -> None:
    assert f"{flag}: does not go with --resume" in the_error(run("--resume", str(tmp_path), flag, "1"))


@pytest.mark.parametrize(
    ("model", "length", "more"),
    [
        ("gan", ["--steps", "2"], ["--steps", "4"]),
        ("pggan", ["--images", "16"], ["--images", "32"]),
        ("cyclegan", ["--steps", "2"], ["--steps", "4"]),
    ],
)
@pytest.mark.usefixtures("no_figures")
def test_resuming_with_a_greater_length_continues_the_run(
    model: str, length: list[str], more: list[str], tmp_path: Path
) -> None:
    first = run("--model", model, *length, *TINY, "--out", str(tmp_path))
    folder = first.stdout.splitlines()[-1]
    second = run("--resume", folder, *more)
    assert second.exit_code == 0, second.output
    assert second.stdout.splitlines()[-1] == folder
    assert '"step":4' in (Path(folder) / "metrics.jsonl").read_text()


def files_of(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_second_trainer_of_a_run_stops_before_it_writes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("--model", "gan", *TINY, "--steps", "2", "--out", str(tmp_path))
    folder = Path(first.stdout.splitlines()[-1])
    monkeypatch.setattr("trainer.command.load_with_config", lambda *_, **__: pytest.fail("it read the data"))
    with RunFolder.open(folder).locked():
        before = files_of(folder)
        error = the_error(run("--resume", str(folder), "--steps", "4"))
        assert files_of(folder) == before
    assert error.startswith(f"Error: {folder}: another trainer writes to this run; wait for it, or stop it")


def test_a_new_run_is_locked_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def train_and_resume(config: AnyConfig, folder: RunFolder, *arguments: Any, **settings: Any) -> Summary:
        def resume(_: object) -> None:
            if not refused:
                refused.append(the_error(run("--resume", str(folder.path), "--steps", "4")))

        return train(config, folder, *arguments, after_step=resume, **settings)

    monkeypatch.setattr("trainer.command.train", train_and_resume)
    assert run("--model", "gan", *TINY, "--steps", "2", "--out", str(tmp_path)).exit_code == 0
    assert "another trainer writes to this run" in refused[0]


def test_a_folder_without_locks_is_trained_in_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunFolder, "locked", lambda _: nullcontext(enter_result=False))
    result = run("--model", "gan", *TINY, "--steps", "2", "--out", str(tmp_path))
    assert result.exit_code == 0
    assert "has no locks, so nothing stops a second trainer from writing to this run; start only one" in " ".join(
        result.output.split()
    )


def test_a_dry_run_does_not_resume(tmp_path: Path) -> None:
    assert "--dry-run: does not go with --resume" in the_error(run("--resume", str(tmp_path), "--dry-run"))


@pytest.mark.usefixtures("no_figures")
def test_one_model_that_diverges_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing, models = "dcgan", ("gan", "dcgan", "cyclegan")

    def fail_for_one(config: AnyConfig, *arguments: object, **options: object) -> Summary:
        if config.model == failing:
            raise TrainingDivergedError("step 1: a loss is NaN")
        return train(config, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("trainer.command.MODELS", models)
    monkeypatch.setattr("trainer.command.train", fail_for_one)
    result = run("--model", "all", "--steps", "2", *TINY, "--out", str(tmp_path))
    assert result.exit_code == 1
    assert f"Error: {failing}: step 1: a loss is NaN" in result.stderr
    assert len(list(tmp_path.rglob("best.safetensors"))) == len(models) - 1


@pytest.mark.usefixtures("no_figures")
def test_interrupting_all_models_names_the_untrained_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> Summary:
        summary = train(*arguments, **options)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)
        return summary

    monkeypatch.setattr("trainer.command.train", interrupt)
    result = run("--model", "all", "--steps", "2", *TINY, "--out", str(tmp_path))
    assert result.exit_code == 130
    assert "interrupted before dcgan, wgan, wgan-gp, wgan-div, pggan, cyclegan" in result.stdout


def start_training(out: Path, steps: int) -> subprocess.Popen[str]:
    arguments = ["--model", "dcgan", "--width", "0.1", "--batch-size", "64", "--device", "cpu", "--seed", "5"]
    return subprocess.Popen(
        [sys.executable, "-c", WITH_A_BRIEF_CLASSIFIER, *arguments, "--steps", str(steps), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    guard = threading.Timer(LIMIT_S, process.kill)
    guard.start()
    try:
        for line in process.stdout:
            if text in line:
                return
        raise AssertionError(f"never printed {text!r}")
    finally:
        guard.cancel()


@pytest.mark.timeout(2 * LIMIT_S + 100)
def test_ctrl_c_saves_and_says_how_to_resume(tmp_path: Path) -> None:
    process = start_training(tmp_path, 100_000)
    read_until(process, "[step 50/")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    folder = Path(output.splitlines()[-1])
    assert f"continue with: python -m trainer --resume {folder}" in output
    assert (folder / "checkpoints" / "last.safetensors").is_file()
    assert (folder / "figures" / "loss_curve.png").is_file()


@pytest.mark.timeout(3 * LIMIT_S + 100)
@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = start_training(tmp_path / "whole", 64)
    killed = start_training(tmp_path / "killed", 64)
    read_until(killed, "[step 50/")  # between the checkpoints of steps 29 and 57
    killed.kill()
    killed.communicate()
    output, error = whole.communicate(timeout=LIMIT_S)
    assert whole.returncode == 0, error
    folder = next((tmp_path / "killed").iterdir())
    resumed = subprocess.run(
        [sys.executable, "-m", "trainer", "--resume", str(folder)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    expected = load_file(Path(output.splitlines()[-1]) / "checkpoints" / "last.safetensors")
    actual = load_file(folder / "checkpoints" / "last.safetensors")
    assert expected.keys() == actual.keys()
    assert all(torch.equal(tensor, actual[name]) for name, tensor in expected.items())


def test_any_field_can_be_set_by_its_name_or_by_its_flag(tmp_path: Path) -> None:
    settings = ("--set", "network.spectral_norm=true", "--set", "r1=0.5", "--set", "steps=3", "--beta1", "0.25")
    result = run("--model", "dcgan", "--dataset", "digits", *settings, "--dry-run")
    config = json.loads(result.stdout)
    assert (config["network"]["spectral_norm"], config["r1"], config["steps"], config["betas"]) == (
        True,
        0.5,
        3,
        [0.25, 0.99],
    )


@pytest.mark.parametrize(
    ("setting", "message"), [("model=gan", "--set model: choose it with --model"), ("nosuch=1", "--nosuch: dcgan")]
)
def test_a_setting_that_cannot_be_set_is_refused(setting: str, message: str) -> None:
    assert the_error(run("--model", "dcgan", "--set", setting, "--dry-run")).startswith(f"Error: {message}")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A short run at an unusual learning rate, on digits."""
    settings = ("--steps", "2", *TINY, "--lr", "0.005", "--seed", "7", "--precision", "fp32")
    result = run("--model", "dcgan", *settings, "--out", str(tmp_path / "earlier"))
    assert result.exit_code == 0, result.output
    return Path(result.stdout.splitlines()[-1])


@pytest.mark.usefixtures("no_figures")
def test_a_new_run_takes_the_settings_of_another_and_flags_change_them(earlier: Path, tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_text(run("--config", str(earlier), "--dry-run").stdout)
    flags = ("--seed", "8", "--dataset", "mnist", "--images", "99")
    for source in (earlier, earlier / "config.json", tmp_path / "saved.json"):
        same = json.loads(run("--config", str(source), "--dry-run").stdout)
        assert same == json.loads((earlier / "config.json").read_text())
        changed = json.loads(run("--config", str(source), *flags, "--dry-run").stdout)
        differences = {name: value for name, value in changed.items() if value != same[name]}
        assert differences == {"seed": 8, "dataset": "mnist", "steps": None, "images": 99}
    result = run("--config", str(earlier), "--out", str(tmp_path / "new"))
    again = Path(result.stdout.splitlines()[-1])
    assert again.parent == tmp_path / "new"
    first, second = (load_file(folder / "checkpoints" / "last.safetensors") for folder in (earlier, again))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("flag", ["--model", "--preset"])
def test_the_settings_of_a_run_do_not_go_with_another_recipe(flag: str, tmp_path: Path) -> None:
    error = the_error(run("--config", str(tmp_path), flag, "dcgan"))
    assert error.startswith(f"Error: {flag}: does not go with --config, which names its {flag[2:]}")


def test_a_config_that_is_missing_or_invalid_is_an_error(tmp_path: Path) -> None:
    assert "not a run folder" in the_error(run("--config", str(tmp_path / "nowhere")))
    (tmp_path / "notes.json").write_text("{}")
    assert "notes.json: not a valid config of this version" in the_error(run("--config", str(tmp_path / "notes.json")))


@pytest.mark.usefixtures("no_figures")
def test_a_new_run_begins_with_the_weights_of_another(earlier: Path, tmp_path: Path) -> None:
    still = ("--lr", "1e-12", "--batch-size", "16", "--steps", "1", "--out", str(tmp_path / "new"))
    result = run("--init-from", str(earlier), "--checkpoint", "last", *still)
    assert result.exit_code == 0, result.output
    assert f"weights: {earlier} (last, step 2)" in " ".join(result.stdout.split())
    folder = Path(result.stdout.splitlines()[-1])
    config = json.loads((folder / "config.json").read_text())
    assert (config["init_from"], config["init_checkpoint"]) == (str(earlier), "last")
    assert (config["seed"], config["batch_size"]) == (7, 16)
    first, second = (load_file(each / "checkpoints" / "last.safetensors") for each in (earlier, folder))
    weights = [name for name in first if name.startswith(("generator.", "discriminator.")) and "weight" in name]
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in weights)
    next_config = json.loads(run("--init-from", str(folder), "--dry-run").stdout)
    assert (next_config["init_from"], next_config["init_checkpoint"]) == (str(folder), "best")
    without = run("--config", str(folder), "--init-from", "", "--dry-run")
    assert json.loads(without.stdout)["init_from"] == ""


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--init-from", "EARLIER", "--model", "dcgan"], "its networks differ (width 0.05 there, 0.5 here)"),
        (["--init-from", "EARLIER", "--model", "cyclegan"], "is a run of dcgan; cyclegan has other networks"),
        (["--init-from", "EARLIER", "--checkpoint", "epoch-0003"], "has no epoch-0003 checkpoint yet"),
        (["--init-from", "EARLIER", "--checkpoint", "first"], "--checkpoint 'first': choose best, last or"),
        (["--init-from", "nowhere", "--model", "dcgan"], "nowhere: not a run folder"),
        (["--init-from", "EARLIER", "--preset", "dcgan-digits"], "--model is missing"),
        (["--model", "dcgan", "--checkpoint", "last"], "--checkpoint: goes with --init-from RUN"),
    ],
)
def test_weights_that_cannot_be_taken_are_an_error_before_a_run_is_created(
    flags: list[str], message: str, earlier: Path, tmp_path: Path
) -> None:
    words = [str(earlier) if word == "EARLIER" else word for word in flags]
    assert message in the_error(run(*words, "--out", str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


def test_show_config_prints_every_flag_with_its_value_and_writes_nothing(tmp_path: Path) -> None:
    result = run("--model", "wgan-gp", "--lr", "0.001", "--show-config", "--out", str(tmp_path / "runs"))
    assert result.exit_code == 0, result.output
    shown = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines() if line.startswith("--")}
    assert (shown["--generator-lr"], shown["--gp-weight"], shown["--n-critic"]) == ("0.001", "10", "1")
    assert list(tmp_path.iterdir()) == []
