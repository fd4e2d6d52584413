from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.gpu.graphed_step import graphed
from benchmarks.training import random_data
from server.engines.base import cuda_devices
from trainer.config import GanConfig, override
from trainer.presets import PRESETS
from trainer.training.gan import GanTraining
from trainer.training.kinds import new_training

STEPS = 7
TINY = {"network.width": 0.0625, "network.image_size": 32, "batch_size": 4, "network.latent_dim": 8}
RECIPES: dict[str, tuple[tuple[str, str], dict[str, Any]]] = {
    "fakes used twice": (("dcgan", "dcgan64-k4"), {}),
    "bf16": (("dcgan", "dcgan64-k4"), {"precision": "bf16"}),
    "gradient penalty": (("wgan-gp", "wgan-gp"), {}),
    "several critic steps": (("wgan", "wgan64-k4"), {"n_critic": 3}),
    "lazy penalties": (("dcgan", "dcgan-r3"), {"penalty_every": 3, "n_critic": 2}),
}
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(cuda_devices() == 0, reason="no CUDA device")]),
]


def new(name: str, device: str) -> tuple[GanTraining, GanConfig]:
    preset, changes = RECIPES[name]
    config = override(PRESETS[preset].config, TINY | changes)
    torch.manual_seed(0)
    training = new_training(config, random_data(config), torch.device(device))
    assert isinstance(training, GanTraining)
    assert isinstance(config, GanConfig)
    return training, config


def steps(training: GanTraining) -> list[dict[str, float | None]]:
    torch.manual_seed(1)
    measured = [training.train_step(0.0) for _ in range(STEPS)]
    return [{name: None if value is None else value.item() for name, value in row.items()} for row in measured]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", RECIPES)
def test_replays_compute_what_eager_steps_compute(name: str, device: str) -> None:
    eager, _ = new(name, device)
    expected = steps(eager)
    training, config = new(name, device)
    with graphed(training, config):
        measured = steps(training)
    exact: Any = {"rtol": 0.0, "atol": 0.0} if device == "cpu" else {"rtol": 5e-2, "atol": 1e-2}
    for row, wanted in zip(measured, expected, strict=True):
        assert {key for key in row if row[key] is None} == {key for key in wanted if wanted[key] is None}
        for key, value in wanted.items():
            if value is not None:
                torch.testing.assert_close(torch.tensor(row[key]), torch.tensor(value), **exact)
    for network in ("generator", "discriminator"):
        for mine, theirs in zip(
            training.state.networks[network].state_dict().values(),
            eager.state.networks[network].state_dict().values(),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, **exact)
    assert training.state.counters == eager.state.counters
    assert (training.state.step, training.state.images_seen) == (eager.state.step, eager.state.images_seen)


def test_a_recipe_without_a_fixed_cycle_is_refused() -> None:
    config = override(PRESETS["wgan", "wgan-paper"].config, TINY)
    training = new_training(config, random_data(config), torch.device("cpu"))
    assert isinstance(training, GanTraining)
    assert isinstance(config, GanConfig)
    with pytest.raises(ValueError, match="warm_start"), graphed(training, config):
        pass
