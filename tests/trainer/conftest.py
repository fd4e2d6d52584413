"""Small trainings that run in a second or two."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
import torch
from rich.console import Console

from trainer.config import TrainConfig, override
from trainer.data import ImageData
from trainer.presets import PRESETS
from trainer.progress import Progress

SMALL = {"network.width": 0.125, "batch_size": 4, "steps": 4, "epochs": None, "device": "cpu", "evaluation_images": 16}


torch.set_num_threads(1)  # the networks of these tests are too small to share


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Iterator[None]:
    """Each test begins with the same random state, and leaves none of its own behind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def quiet() -> Progress:
    return Progress(Console(file=io.StringIO(), width=200))


def small_config(model: str, preset: str, **settings: object) -> TrainConfig:
    """A preset with narrow networks, few steps and a made-up data set."""
    config = PRESETS[model, preset].config
    return override(config, SMALL | {"dataset": config.dataset or "digits"} | settings)


def made_up_images(config: TrainConfig, count: int = 18) -> ImageData:
    """Blocks of random brightness: cheap, and enough to learn from."""
    generator = torch.Generator().manual_seed(7)
    size = config.network.image_size
    blocks = torch.randint(0, 256, (count, config.network.channels, 4, 4), generator=generator, dtype=torch.uint8)
    images = torch.nn.functional.interpolate(blocks.float(), size=(size, size)).to(torch.uint8)
    return ImageData("made-up", images)


@pytest.fixture
def stop_after() -> Callable[[int], Callable[[], bool]]:
    """Makes a `stop_requested` that says yes at its n-th question."""

    def make(steps: int) -> Callable[[], bool]:
        answers = iter([False] * (steps - 1))
        return lambda: next(answers, True)

    return make
