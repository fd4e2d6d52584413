"""Every architecture goes the whole way: a few training steps, export, serve, fetch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from client import GanClient
from exporter.export import export_all, plan_exports
from exporter.source import from_run
from ganserve.bundle import ImageInput, LatentInput, example_rows
from tests.end_to_end.conftest import running_server
from tests.trainer.conftest import GAN_PRESETS, made_up_images, small_cycle, small_gan
from trainer.config import AnyConfig
from trainer.models import ARCHITECTURES
from trainer.progress import Progress
from trainer.runs.run_folder import ExportedRun, RunFolder, load_generators
from trainer.training import loop
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining

ROWS = 9
GRAY: Final[dict[str, Any]] = {"network.channels": 1}
WIDE: Final[dict[str, Any]] = {"network.image_size": 24, "network.image_width": 32}
NEAREST: Final[dict[str, Any]] = {"network.upsampling": "nearest"}


def smallest(model: str, preset: str, channels: int) -> AnyConfig:
    architecture = small_gan(model, preset).network.architecture
    small: dict[str, Any] = {"network.width": 1 / 32, "network.channels": channels, "n_critic": 1}
    if ARCHITECTURES[architecture].makes_size(16, 16):
        small["network.image_size"] = 16
    return small_gan(model, preset, steps=2, **small)


# Each architecture once, in the order of the registry; gray ones and ones in colour in turn.
_ONE_OF_EACH = {small_gan(*key).network.architecture: key for key in reversed(GAN_PRESETS)}
CONFIGS: Final[dict[str, AnyConfig]] = {
    **{
        name: smallest(*_ONE_OF_EACH[name], channels=1 if number % 2 else 3)
        for number, name in enumerate(ARCHITECTURES)
    },
    "gray-translator": small_cycle(steps=2, **GRAY),
    "nearest-translator": small_cycle(steps=2, **NEAREST),
    "wide-mlp": small_gan("gan", "gan-digits", steps=2, **WIDE),
    "wide-dcgan": small_gan("dcgan", "dcgan-digits", steps=2, **WIDE),
    "wide-wgan-gp": small_gan("wgan-gp", "wgan-gp-digits", steps=2, **WIDE),
    "wide-translator": small_cycle(steps=2, **WIDE),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        for training in (GanTraining, CycleTraining):
            patch.setattr(training, "draw_figures", lambda *_: None)
        for name, config in CONFIGS.items():
            run = RunFolder.create(tmp_path_factory.mktemp("runs"), config)
            loop.train(config, run, made_up_images(config), Progress(Console(file=io.StringIO())))
            folders[name] = run.path
    return folders


@pytest.fixture(scope="module")
def client(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GanClient]:
    models = tmp_path_factory.mktemp("models")
    for name, run in runs.items():
        sources = from_run(run, "best")
        names = [name + source.suffix for source in sources]
        export_all(list(zip(sources, plan_exports(models, names, None), strict=True)))
    with running_server(models) as server, GanClient(server.address) as connected:
        yield connected


def trained_images(exported: ExportedRun, rows: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the trained network itself makes of latents, or of pixels."""
    inputs = torch.from_numpy(rows)
    if not exported.latent_dim:
        inputs = inputs.permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        images: NDArray[np.float32] = exported.network(inputs).numpy()
    return images


@pytest.mark.timeout(400)  # the first test waits for all trainings and exports
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_served_is_what_was_trained(name: str, runs: dict[str, Path], client: GanClient) -> None:
    for exported in load_generators(runs[name], "best"):
        model = name + exported.suffix
        if exported.latent_dim:
            rows = example_rows(LatentInput(latent_dim=exported.latent_dim), 11, ROWS)
            served = client.generate(model, seed=11, count=ROWS, format="float32")
            pixels = client.generate(model, latents=rows)
        else:
            height, width = exported.size
            rows = example_rows(ImageInput(channels=exported.channels, height=height, width=width), 11, ROWS)
            served = client.translate(model, rows, format="float32")
            pixels = client.translate(model, rows)
        images = trained_images(exported, rows)
        np.testing.assert_allclose(served, images, atol=1e-4)
        expected = np.rint((images + 1) * 127.5).clip(0, 255).transpose(0, 2, 3, 1)
        assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_every_model_is_listed_with_its_facts(runs: dict[str, Path], client: GanClient) -> None:
    listed = {model.name: model for model in client.models()}
    exported = {
        name + network.suffix: network for name, run in runs.items() for network in load_generators(run, "best")
    }
    assert listed.keys() == exported.keys()
    for name, network in exported.items():
        facts = listed[name]
        assert facts.kind == network.model
        assert facts.latent_dim == network.latent_dim
        assert facts.task == ("generate" if network.latent_dim else "translate")
        assert (facts.height, facts.width) == network.size
