"""A growing GAN and a CycleGAN with the smallest possible networks, and noise as data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import AnyConfig, CycleConfig, GanConfig
from trainer.data.datasets import ImageData
from trainer.data.unpaired import UnpairedData
from trainer.models import NetworkConfig, TranslatorConfig
from trainer.models.growth import GrowthConfig
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.training import cyclegan, loop
from trainer.training.base import Training
from trainer.training.cyclegan_step import CycleResult, CycleState
from trainer.training.kinds import Data, new_training
from trainer.training.loop import train

CPU = torch.device("cpu")

_GROWING = GanConfig(
    model="pggan",
    preset="pggan-small",
    dataset="digits",
    network=NetworkConfig(architecture="pggan", image_size=16, latent_dim=8, width=1 / 64),
    # In images: 4x4 to 8, fade to 16, 8x8 to 24, fade to 32, then 16x16.
    growth=GrowthConfig(stabilise_images=8, fade_images=8),
    objective="wgan-gp",
    generator_lr=1e-3,
    discriminator_lr=1e-3,
    betas=(0.0, 0.99),
    drift=1e-3,
    batch_size=4,
    steps=10,
    evaluation_images=16,
    device="cpu",
)
_CYCLE = CycleConfig(
    model="cyclegan",
    preset="cyclegan-digits",
    dataset="digits",
    network=TranslatorConfig(image_size=32, channels=1, width=1 / 32, residual_blocks=1),
    domains=("ink", "chalk"),
    pool_images=3,
    batch_size=4,
    steps=4,
    evaluation_images=16,
    device="cpu",
)


def growing_config(**fields: Any) -> GanConfig:
    """A GAN that grows from 4x4 to 16x16 in ten batches of four."""
    return replace(_GROWING, **fields)


def cycle_config(**fields: Any) -> CycleConfig:
    """A CycleGAN for gray images of 32x32."""
    return replace(_CYCLE, **fields)


def noise(count: int, size: int, seed: int) -> Tensor:
    """Random gray pixels, uint8 (count, 1, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, size, size), generator=generator, dtype=torch.uint8)


def noise_images(config: GanConfig, count: int = 18) -> ImageData:
    """Images for a GAN."""
    return ImageData("noise", noise(count, config.network.image_size, 1))


def noise_domains(counts: tuple[int, int] = (8, 6), tests: tuple[int, int] = (5, 5), *, paired: bool) -> UnpairedData:
    """Images (32x32) of two domains; `counts` and `tests` are numbers of A and of B."""
    train_a, train_b, test_a, test_b = (noise(count, 32, seed) for seed, count in enumerate((*counts, *tests), 1))
    return UnpairedData("noise", train_a, train_b, test_a, test_b, test_is_paired=paired)


def box_means(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Images (N, C, S, S) averaged to (N, C, size, size)."""
    box = images.shape[-1] // size
    means: NDArray[np.float32] = images.reshape(*images.shape[:2], size, box, size, box).mean((3, 5))
    return means


class Batches(NamedTuple):
    """The input of a CycleGAN step; pixels 0..255."""

    real_a: Tensor
    real_b: Tensor
    lr_factor: float


def record_batches(monkeypatch: pytest.MonkeyPatch) -> list[Batches]:
    """Makes CycleGAN steps train nothing, and returns the list of their inputs."""
    batches: list[Batches] = []

    def only_count(state: CycleState, _config: CycleConfig, a: Tensor, b: Tensor, lr_factor: float) -> CycleResult:
        batches.append(Batches((a + 1) * 127.5, (b + 1) * 127.5, lr_factor))
        state.step += 1
        state.images_seen += len(a)
        return CycleResult(*[torch.zeros(())] * 7)

    monkeypatch.setattr(cyclegan, "cycle_step", only_count)
    return batches


def train_run(
    config: AnyConfig, data: Data, run: RunFolder, progress: Progress, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> Training:
    """Trains in a run folder without drawing figures, which is slow; returns the trained object."""
    made: list[Training] = []

    def remember(*arguments: Any) -> Training:
        made.append(new_training(*arguments))
        monkeypatch.setattr(made[-1], "draw_figures", lambda _run: None)
        return made[-1]

    monkeypatch.setattr(loop, "new_training", remember)
    train(config, run, data, progress, **options)
    return made[-1]
