"""Every architecture trains at every size that it says it makes, in colour too."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.trainer.conftest import made_up_images
from tests.trainer.tiny_trainings import CPU
from trainer.config import AnyConfig, CycleConfig, GanConfig
from trainer.errors import UserError
from trainer.models import ARCHITECTURES, NetworkConfig, TranslatorConfig
from trainer.models.cyclegan import check_translator
from trainer.models.growth import GrowthConfig
from trainer.training.base import Training
from trainer.training.kinds import new_training

LARGEST = 128  # pixels; above it only what costs little
CHEAP = {"mlp-shallow": 256, "mlp-dropout": 256, "mlp-batchnorm": 256, "dcgan-upsample": 256}
BATCH = 4
STEPS = 2


def sizes(architecture: str) -> list[int]:
    """All that it makes; of the many that some make, the smallest, the largest, odd and round ones."""
    largest = CHEAP.get(architecture, LARGEST)
    made = [size for size in range(1, largest + 1) if ARCHITECTURES[architecture].makes_size(size, size)]
    few = {made[0], 5, 16, 17, 28, 32, 48, 64, 99, made[-1]}
    return made if len(made) < 10 else [size for size in made if size in few]


# The number of channels changes the first and the last layer alone, so one size shows those in colour.
CASES = [(name, size, 1) for name in ARCHITECTURES for size in sizes(name)]
CASES += [(name, sizes(name)[0], 3) for name in ARCHITECTURES]


def gan_config(architecture: str, size: int, channels: int, width: int | None = None) -> GanConfig:
    grows = ARCHITECTURES[architecture].grows
    # Small from the start, so that the largest size is what the last steps train.
    growth = GrowthConfig(start_resolution=max(4, size // 2), stabilise_images=2, fade_images=2)
    config = GanConfig(
        model="gan",
        preset="any",
        dataset="digits",
        network=NetworkConfig(
            architecture=architecture,
            image_size=size,
            image_width=width,
            channels=channels,
            width=1 / 32,
            latent_dim=8,
        ),
        growth=growth if grows else None,
        objective="wgan-gp" if grows else "nonsaturating",
        batch_size=BATCH,
        steps=STEPS,
        device="cpu",
    )
    config.check()
    return config


def weights(training: Training) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": parameter.detach().clone()
        for name, network in training.state.networks.items()
        for key, parameter in network.named_parameters()
    }


def assert_learns(config: AnyConfig, size: int) -> None:
    """A few steps: finite losses that move, weights that move in every network, and samples of the right size."""
    training = new_training(config, made_up_images(config), CPU)
    before = weights(training)
    rows = [training.train_step(0.0) for _ in range(STEPS)]
    losses = [float(row["d_loss"]) for row in rows if row["d_loss"] is not None]
    assert len(set(losses)) == STEPS
    assert all(math.isfinite(float(value)) for row in rows for value in row.values() if value is not None)
    after = weights(training)
    for network in training.state.networks:
        assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith(f"{network}."))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values())
    assert training.output_size == size
    assert training.sample_spread() is not None


@pytest.mark.parametrize(("architecture", "size", "channels"), CASES)
def test_an_architecture_learns_at_each_of_its_sizes(architecture: str, size: int, channels: int) -> None:
    assert_learns(gan_config(architecture, size, channels), size)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if not ARCHITECTURES[name].grows])
def test_an_architecture_learns_images_that_are_not_square(architecture: str) -> None:
    assert_learns(gan_config(architecture, 32, 3, 24), 32)


@pytest.mark.parametrize(("size", "channels"), [(32, 1), (32, 3), (36, 1), (60, 1), (64, 1), (128, 1)])
def test_translators_learn_at_their_sizes(size: int, channels: int) -> None:
    network = TranslatorConfig(image_size=size, channels=channels, width=1 / 32, residual_blocks=1)
    config = CycleConfig(
        model="cyclegan", preset="any", dataset="digits", network=network, batch_size=2, steps=STEPS, device="cpu"
    )
    config.check()
    assert_learns(config, size)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_size_that_an_architecture_does_not_make_is_refused_before_any_network_is_built(architecture: str) -> None:
    for size in {4, 6, 12, 30, 33, 48, 100, 512} - set(range(4, 257) if architecture.startswith("mlp") else []):
        if not ARCHITECTURES[architecture].makes_size(size, size):
            with pytest.raises(UserError, match=f"--image-size {size}: "):
                gan_config(architecture, size, 1)


@pytest.mark.parametrize("size", [4, 28, 31, 34, 260])
def test_a_size_that_translators_do_not_make_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"--image-size {size}: "):
        check_translator(TranslatorConfig(image_size=size))
