"""The cells of a sweep: all combinations, each checked like the trainer's flags."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from trainer.config import GanConfig
from trainer.errors import UserError
from trainer.presets import PRESETS
from trainer.sweep.grid import cells_of, resolve
from trainer.sweep.spec import Axis, Settings, Spec


def spec(axes: dict[str, Axis] | None = None, seeds: tuple[int, ...] = (3,), **base: Any) -> Spec:
    settings: Settings = {"model": "dcgan", "dataset": "digits", "device": "cpu"} | base
    return Spec(title="t", seeds=list(seeds), base=settings, axes=axes or {})


def test_every_combination_is_a_cell_in_order() -> None:
    cells = cells_of(spec({"lr": [1e-4, 2e-4], "batch_size": [16, 32], "kind": {"wide": {"width": 1.0}}}))
    configs = [cell.config for cell in cells]
    assert [(c.generator_lr, c.discriminator_lr, c.batch_size) for c in configs] == [
        (lr, lr, batch) for lr, batch in itertools.product((1e-4, 2e-4), (16, 32))
    ]
    assert all(config.network.width == 1 and config.seed == 3 for config in configs)
    assert cells[0].name == "lr 0.0001, batch_size 16, wide"
    assert cells[0].folder == "lr-0.0001-batch-size-16-wide"
    assert cells[0].varied == (("lr", "0.0001"), ("batch_size", "16"), ("kind", "wide"))


def test_a_sweep_without_axes_has_one_cell() -> None:
    (cell,) = cells_of(spec())
    assert cell.config == resolve(spec(), {}, 3)


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_a_cell_without_settings_is_the_preset(model: str, preset: str) -> None:
    config = PRESETS[model, preset].config
    resolved = resolve(spec(model=model, preset=preset, dataset=config.dataset or "folder:x", precision="fp32"), {}, 0)
    assert resolved.dataset == (config.dataset or "folder:x")
    for field in ("network", "batch_size", "epochs", "steps", "images", "generator_lr", "betas"):
        assert getattr(resolved, field) == getattr(config, field)


def test_a_group_may_choose_the_model_and_fields_without_a_flag() -> None:
    axes: dict[str, Axis] = {
        "method": {"A": {"model": "dcgan", "ema_decay": 0.5}, "B": {"model": "wgan", "clip_value": 0.5, "steps": 3}}
    }
    first, second = (cell.config for cell in cells_of(spec(axes, epochs=2)))
    assert isinstance(first, GanConfig)
    assert isinstance(second, GanConfig)
    assert (first.ema_decay, first.epochs, first.steps) == (0.5, 2, None)
    assert (second.clip_value, second.epochs, second.steps) == (0.5, None, 3)


@pytest.mark.parametrize(
    ("axes", "base", "message"),
    [
        ({}, {"model": "vae"}, "--model 'vae'"),
        ({}, {"preset": "none"}, "--preset 'none'"),
        ({}, {"model": 3}, "--model 3"),
        ({}, {"dataset": "imagenet"}, "--dataset 'imagenet'"),
        ({}, {"dataset": ""}, "--set dataset=zip:PATH"),
        ({}, {"seed": 3}, "--seed: not for sweeps"),
        ({}, {"warp": 3}, "--warp: dcgan (dcgan-digits) has no such setting"),
        ({}, {"epochs": 1, "steps": 1}, "--epochs and --steps: give one of them"),
        ({"lr": [0.1, -1.0]}, {}, "cell lr -1: --lr: expected `float` > 0"),
        ({"clip_value": [0.1, 0.2]}, {}, "cell clip_value 0.1: --clip-value: dcgan (dcgan-digits) has no such setting"),
        ({"image_size": [32, 50]}, {}, "cell image_size 50: --image-size 50"),
        ({"lr": [0.1], "m": {"a": {"lr": 0.2}}}, {}, "axes.m: another axis sets lr"),
        ({"lr": []}, {}, "axes.lr: no values"),
        ({"lr": [0.1, 0.1]}, {}, "have equal settings"),
        ({"m": {"a b": {"lr": 0.1}, "A-B": {"lr": 0.2}}}, {}, "have the same folder name"),
        ({"m": {"<b>": {}}}, {}, "not a valid cell name"),
        ({"lr": [1e-3 + i * 1e-9 for i in range(1001)]}, {}, "1001 cells"),
    ],
)
def test_a_mistake_is_found_before_anything_is_trained(
    axes: dict[str, Axis], base: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        cells_of(spec(axes, **base))
    assert message in str(caught.value)


def test_repeated_seeds_are_refused() -> None:
    with pytest.raises(UserError, match="seeds: a seed occurs twice"):
        cells_of(spec(seeds=(1, 1)))


@pytest.mark.parametrize("name", ["..", "a/../../b", "C:\\x", "\N{SNOWMAN}"])
def test_cell_folders_stay_inside_the_sweep_folder(name: str) -> None:
    (cell,) = cells_of(spec({"m": {name: {}}}))
    assert "/" not in cell.folder
    assert "\\" not in cell.folder
    assert cell.folder.strip(".")
