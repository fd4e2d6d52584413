"""The specs in sweeps/: all are valid, in full and in quick form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.trainer.sweep.conftest import run, the_error
from trainer.config import CycleConfig
from trainer.sweep.command import estimated_images
from trainer.sweep.grid import cells_of
from trainer.sweep.spec import quick_form, read_spec, with_settings

FOLDER = Path(__file__).parents[3] / "sweeps"
SPECS = sorted(FOLDER.glob("*.toml"))
NEED_IMAGES = {"e04", "e05", "e06", "e07", "e08b", "e09", "e12", "e13"}
QUICK_IMAGES = 500_000  # real images in total; a CPU trains such networks on thousands per second

# What each source varies: axis values by experiment.
VARIED = {
    "e02": {"lr": [0.002, 0.0002], "batch_size": [128, 512, 1024]},
    "e03": {"lr": [1e-4, 2e-4, 3e-4]},
    "e05": {"lr": [0.002, 0.0002], "batch_size": [128, 512, 1024]},
    "e06": {"lr": [1e-4, 2e-4, 3e-4]},
    "e07": {"optimizer": ["adam", "rmsprop"]},
}
SHOWN = {
    "e01": [1, 40],
    "e04": [10, 50, 100, 200],
    "e09": [10, 50, 100, 150],
}


def number_of(path: Path) -> str:
    return path.stem.partition("-")[0]


def test_every_experiment_has_a_spec() -> None:
    assert {re.sub("[ab]$", "", number_of(path)) for path in SPECS} == {f"e{number:02d}" for number in range(1, 15)}


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_cell_of_every_spec_is_valid(path: Path, quick: bool) -> None:
    spec = read_spec(path)
    spec = quick_form(spec) if quick else spec
    needs_images = number_of(path) in NEED_IMAGES
    assert (spec.base.get("dataset") == "") == (needs_images and not quick)
    cells = cells_of(with_settings(spec, {"dataset": "zip:faces.zip"}) if needs_images else spec)
    assert cells
    assert spec.show_at_epochs or spec.show_at_steps
    for cell in cells:
        last = max([*spec.show_at_epochs, *spec.show_at_steps])
        config = cell.config
        if spec.show_at_epochs and config.epochs is not None and number_of(path) != "e12":
            assert last <= config.epochs
        if spec.show_at_steps and config.steps is not None:
            assert last <= config.steps
        assert all(step % config.checkpoint_every_steps == 0 for step in spec.show_at_steps)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_quick_form_shows_few_images_and_needs_no_files(path: Path) -> None:
    spec = quick_form(read_spec(path))
    total = 0
    for cell in cells_of(spec):
        images = estimated_images(cell.config)
        assert images is not None
        assert cell.config.dataset == "digits"
        assert cell.config.network.image_size <= 32
        assert cell.config.network.width <= 0.5
        total += images * len(spec.seeds)
    assert total <= QUICK_IMAGES


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_varies_and_shows_the_same_as_its_source(path: Path) -> None:
    spec, number = read_spec(path), number_of(path)
    assert spec.title.startswith(f"E{int(number[1:3])}: ")
    assert spec.reproduces
    assert spec.seeds == [0, 1, 2]
    if number in VARIED:
        assert spec.axes == VARIED[number]
    if number in SHOWN:
        assert spec.show_at_epochs == SHOWN[number]


@pytest.mark.parametrize("number", sorted(NEED_IMAGES))
def test_a_sweep_on_the_users_images_asks_for_them_in_one_line(number: str) -> None:
    (path,) = FOLDER.glob(f"{number}-*.toml")
    assert "give --set dataset=zip:PATH, or folder:PATH" in the_error(run(path, "--dry-run"))


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ("WGAN", ("rmsprop", 5e-5, 64, 30, 5)),
        ("WGAN-GP", ("adam", 5e-5, 64, 30, 5)),
        ("WGAN-div", ("adam", 5e-5, 64, 30, 5)),
    ],
)
@pytest.mark.parametrize("half", ["e08a", "e08b"])
def test_the_three_critics_have_the_settings_of_the_source(half: str, model: str, recipe: tuple[object, ...]) -> None:
    (path,) = FOLDER.glob(f"{half}-*.toml")
    spec = read_spec(path)
    cells = cells_of(with_settings(spec, {"dataset": "zip:faces.zip"}) if half == "e08b" else spec)
    (config,) = (cell.config for cell in cells if cell.name == model)
    assert not isinstance(config, CycleConfig)
    found = (config.optimizer, config.generator_lr, config.batch_size, config.epochs, config.n_critic)
    assert found == recipe
