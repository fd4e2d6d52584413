"""The command line on folders of one's own pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from tests.trainer.test_command import run, the_error
from trainer.data.datasets import ImageData
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.training.kinds import load_with_config


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures, a text file and a broken picture."""
    folder = tmp_path / "My Pictures"
    folder.mkdir()
    for index in range(10):
        Image.effect_noise((64, 64), 20 + 10 * index).save(folder / f"{index}.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.png").write_text("no picture")
    return folder


def test_a_dry_run_on_own_pictures_tells_data_steps_and_time_beside_the_config(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.plan.estimate_s", lambda *_, size=None: 300.0 if size is None else 900.0)
    result = run("--model", "dcgan", "--dataset", f"folder:{pictures}/", "--device", "cpu", "--dry-run")
    assert result.exit_code == 0, result.output
    config = json.loads(result.stdout)
    assert (config["preset"], config["dataset"], config["steps"]) == ("own-pictures", f"folder:{pictures}", 1500)
    said = result.stderr
    assert "My Pictures: 11 pictures of 64x64 in 12 files" in said
    assert "left out: 1 x .txt" in said
    assert "skipped broken.png" in said
    assert "dcgan on folder:My Pictures (1 unreadable): 10 of 11 images, 32x32 gray, batch 8, 1,500 steps" in said
    assert "about 5 minutes on this machine" in said
    assert "--image-size 64 takes about 15 minutes" in said


def test_a_dry_run_on_a_folder_that_does_not_exist_is_an_error() -> None:
    error = the_error(run("--model", "dcgan", "--dataset", "folder:nowhere", "--dry-run"))
    assert error == "Error: --dataset nowhere: no such folder or zip file\n"


@pytest.mark.usefixtures("no_figures")
def test_a_run_on_own_pictures_prints_no_config_and_no_path_above_them(pictures: Path, tmp_path: Path) -> None:
    flags = ("--steps", "2", "--width", "0.05", "--device", "cpu", "--out", str(tmp_path / "runs"))
    result = run("--model", "dcgan", "--dataset", f"folder:{pictures}/.", *flags)
    assert result.exit_code == 0, result.output
    folder = Path(result.stdout.splitlines()[-1])
    assert folder.name == "0001-dcgan-my-pictures"
    assert str(pictures) not in result.stdout
    assert "{" not in result.stdout
    config = json.loads((folder / "config.json").read_text())
    assert (config["dataset"], config["network"]["width"]) == (f"folder:{pictures}", 0.05)


def test_a_preset_is_used_unchanged_for_own_pictures(pictures: Path) -> None:
    flags = ("--preset", "dcgan64-k4", "--batch-size", "8", "--dry-run")
    config = json.loads(run("--model", "dcgan", "--dataset", f"folder:{pictures}", *flags).stdout)
    assert (config["preset"], config["epochs"], config["network"]["image_size"]) == ("dcgan64-k4", 50, 64)


@pytest.mark.usefixtures("no_figures")
def test_timing_steps_before_a_run_does_not_change_it(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--model", "gan", "--dataset", f"folder:{pictures}", "--width", "0.05", "--steps", "4", "--device", "cpu")
    untimed = run(*flags, "--out", str(pictures.parent / "untimed"))
    monkeypatch.setattr("trainer.plan._FEWEST_STEPS", 1)
    timed = run(*flags, "--out", str(pictures.parent / "timed"))
    assert "on this machine" in timed.stdout
    assert "on this machine" not in untimed.stdout
    first, second = (
        load_file(Path(result.stdout.splitlines()[-1]) / "checkpoints" / "last.safetensors")
        for result in (untimed, timed)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_run_folder_says_what_the_data_was_and_what_was_left_out(pictures: Path, tmp_path: Path) -> None:
    flags = ("--steps", "1", "--width", "0.05", "--device", "cpu", "--out", str(tmp_path / "runs"))
    result = run("--model", "dcgan", "--dataset", str(pictures), *flags)
    assert result.exit_code == 0, result.output
    about = json.loads((Path(result.stdout.splitlines()[-1]) / "data.json").read_text())
    assert about | {"pixels": None} == {
        "dataset": "folder:My Pictures",
        "images": {"images": 10},
        "image_size": 32,
        "image_width": None,
        "channels": 1,
        "pixels": None,
        "left_out": {".txt": 1},
        "unreadable": ["broken.png: not a picture in a known format"],
    }


@pytest.mark.parametrize("model", ["gan", "dcgan"])
def test_pictures_that_are_not_square_are_trained_on_whole(tmp_path: Path, model: str) -> None:
    """Red at the top and bottom, which a square crop would cut off."""
    (tmp_path / "tall").mkdir()
    for index in range(8):
        picture = Image.effect_noise((48, 64), 50 + index).convert("RGB")
        for top in (0, 56):
            picture.paste("red", (0, top, 48, top + 8))
        picture.save(tmp_path / "tall" / f"{index}.png")
    flags = ("--image-size", "32x24", "--steps", "2", "--width", "0.05", "--batch-size", "4", "--device", "cpu")
    result = run("--model", model, "--dataset", str(tmp_path / "tall"), *flags, "--out", str(tmp_path / "runs"))
    assert result.exit_code == 0, result.output
    assert "not of the shape" not in result.stdout
    assert " 32x24 " in result.stdout
    folder = Path(result.stdout.splitlines()[-1])
    config = RunFolder.open(folder).read_config()
    assert config.network.size == (32, 24)
    with Image.open(folder / "samples" / "step-00000002.png") as grid:
        assert grid.size == (8 * (24 + 2) + 2, 8 * (32 + 2) + 2)
    with Image.open(folder / "figures" / "traversal.png") as sheet:
        assert sheet.height == 15 * (32 + 2) + 2
    _, data = load_with_config(config, Progress(Console(file=io.StringIO())))
    assert isinstance(data, ImageData)
    assert data.images.shape[-2:] == (32, 24)
    red = data.images[:, :, [0, 31]].float().mean((0, 3)).round()
    for row in (0, 1):
        assert red[:, row].tolist() == [255, 0, 0]
