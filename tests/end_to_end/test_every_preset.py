"""Every model and preset of the registry goes the whole way: two training steps, export, serve, fetch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from client import GanClient
from exporter.export import export, plan_export
from exporter.source import from_run
from ganserve.latents import latents_from_seed
from tests.end_to_end.conftest import running_server
from tests.trainer.conftest import made_up_images, small_config
from trainer import loop
from trainer.checkpoint import RunFolder, load_generator
from trainer.presets import PRESETS
from trainer.progress import Progress


def served_name(model: str, preset: str) -> str:
    return f"{model}.{preset}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_figures", lambda *_: None)
        for model, preset in PRESETS:
            config = small_config(model, preset, steps=2, n_critic=1, warm_start=False)
            run = RunFolder.create(tmp_path_factory.getbasetemp() / "runs", config)
            loop.train(config, run, made_up_images(config), Progress(Console(file=io.StringIO())))
            folders[model, preset] = run.path
    return folders


@pytest.fixture(scope="module")
def client(runs: dict[tuple[str, str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GanClient]:
    models = tmp_path_factory.mktemp("models")
    for (model, preset), run in runs.items():
        export(from_run(run, "best"), plan_export(models, served_name(model, preset), None))
    with running_server(models) as server, GanClient(server.address) as connected:
        yield connected


@pytest.mark.timeout(300)  # the first test waits for all trainings and exports
@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_what_is_served_is_what_was_trained(
    model: str, preset: str, runs: dict[tuple[str, str], Path], client: GanClient
) -> None:
    trained = load_generator(runs[model, preset], "best")
    latents = latents_from_seed(11, 9, trained.latent_dim)
    with torch.inference_mode():
        images = trained.generator(torch.from_numpy(latents)).numpy()
    served = client.generate(served_name(model, preset), seed=11, count=9, format="float32")
    np.testing.assert_allclose(served, images, atol=1e-4)
    pixels = client.generate(served_name(model, preset), latents=latents).astype(int)
    expected = np.rint((images + 1) * 127.5).transpose(0, 2, 3, 1)
    assert np.abs(pixels - expected).max() <= 1


def test_every_preset_is_listed_with_its_facts(client: GanClient) -> None:
    listed = {model.name: model for model in client.models()}
    assert sorted(listed) == sorted(served_name(*key) for key in PRESETS)
    for (model, preset), entry in PRESETS.items():
        facts = listed[served_name(model, preset)]
        assert facts.kind == model
        assert facts.latent_dim == entry.config.network.latent_dim
        assert facts.height == facts.width == entry.config.network.image_size
