"""Small runs that train in a second or two."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import overload

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from trainer.cache_folder import CACHE_VARIABLE
from trainer.config import AnyConfig, CycleConfig, GanConfig, override
from trainer.data.datasets import ImageData
from trainer.data.unpaired import UnpairedData
from trainer.metrics import classifier
from trainer.presets import PRESETS
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.training import compiled
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining
from trainer.training.kinds import Data
from trainer.training.loop import train
from trainer.training.session import Summary

SMALL = {
    "network.width": 0.125,
    "batch_size": 4,
    "steps": 4,
    "epochs": None,
    "images": None,
    "device": "cpu",
    "evaluation_images": 16,
}
# In batches of 4: the first at 4x4, the next three while 8x8 fades in, the fifth at 16x16.
SMALL_GROWTH = {
    "network.image_size": 16,
    "network.width": 0.0625,
    "network.latent_dim": 64,
    "growth.stabilise_images": 3,
    "growth.fade_images": 10,
}
# The pools are full after two batches of 4.
SMALL_CYCLE = {"network.image_size": 32, "network.width": 0.0625, "network.residual_blocks": 1, "pool_images": 6}

GAN_PRESETS = [key for key, preset in PRESETS.items() if isinstance(preset.config, GanConfig)]
CYCLE_PRESETS = [key for key, preset in PRESETS.items() if isinstance(preset.config, CycleConfig)]


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Iterator[None]:
    """Each test begins with the same random state, which is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True, scope="session")
def _brief_classifiers() -> Iterator[None]:
    """Trains the classifiers of data sets only briefly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "_MOST_SHOWN", 512)
        yield


@pytest.fixture
def quiet() -> Progress:
    return Progress(Console(file=io.StringIO(), width=200))


@pytest.fixture
def classifier_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of classifiers."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def only_captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes torch.compile capture all graphs, gradients included, but skip the slow C++ compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    compiled._trouble.cache_clear()
    yield
    compiled._trouble.cache_clear()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the figures, which are slow to draw."""
    for training in (GanTraining, CycleTraining):
        monkeypatch.setattr(training, "draw_figures", lambda *_: None)


def small_config(model: str, preset: str, **settings: object) -> AnyConfig:
    """A preset with narrow networks and few steps; a growing network grows every few steps."""
    config = PRESETS[model, preset].config
    small = SMALL | {"dataset": config.dataset or "digits"}
    if isinstance(config, CycleConfig):
        return override(config, small | SMALL_CYCLE | settings)
    return override(config, small | (SMALL_GROWTH if config.growth is not None else {}) | settings)


def small_gan(model: str, preset: str, **settings: object) -> GanConfig:
    """`small_config` of a GAN preset."""
    config = small_config(model, preset, **settings)
    assert isinstance(config, GanConfig)
    return config


def small_cycle(preset: str = "cyclegan-digits", **settings: object) -> CycleConfig:
    """`small_config` of a CycleGAN preset."""
    config = small_config("cyclegan", preset, **settings)
    assert isinstance(config, CycleConfig)
    return config


@overload
def made_up_images(config: GanConfig, count: int = 18) -> ImageData: ...
@overload
def made_up_images(config: CycleConfig, count: int = 18) -> UnpairedData: ...
@overload
def made_up_images(config: AnyConfig, count: int = 18) -> Data: ...
def made_up_images(config: AnyConfig, count: int = 18) -> Data:
    """Blocks of random brightness: cheap, and enough to learn from.

    Two domains have `count` and `count` - 1 images, and four test pairs in which B is the negative of A.
    """
    generator = torch.Generator().manual_seed(7)
    size = config.network.image_size

    def blocks(images: int) -> Tensor:
        shape = (images, config.network.channels, 4, 4)
        small = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return torch.nn.functional.interpolate(small.float(), size=(size, size)).to(torch.uint8)

    if not isinstance(config, CycleConfig):
        return ImageData("made-up", blocks(count))
    train_a, train_b, test_a = blocks(count), blocks(count - 1), blocks(4)
    return UnpairedData("made-up", train_a, train_b, test_a, 255 - test_a, test_is_paired=True)


def run_training(config: AnyConfig, out: Path, progress: Progress) -> tuple[RunFolder, Summary]:
    run = RunFolder.create(out, config)
    return run, train(config, run, made_up_images(config), progress)


def tensors_of(run: RunFolder) -> dict[str, Tensor]:
    return load_file(run.checkpoint_path("last"))


StopAfter = Callable[[int], Callable[[], bool]]


@pytest.fixture
def stop_after() -> StopAfter:
    """Makes a `stop_requested` that returns True from its n-th call."""

    def make(steps: int) -> Callable[[], bool]:
        answers = iter([False] * (steps - 1))
        return lambda: next(answers, True)

    return make
