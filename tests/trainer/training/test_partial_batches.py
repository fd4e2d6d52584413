"""A data set of 65 images in batches of 64: every second batch but one goes over the end of a pass."""

from __future__ import annotations

import io
import math
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from tests.trainer.conftest import GAN_PRESETS, made_up_images, run_training, small_cycle, small_gan
from tests.trainer.tiny_trainings import CPU
from trainer.data.datasets import ImageData, stream_indices
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.training import gan
from trainer.training.kinds import new_training
from trainer.training.loop import train

IMAGES, BATCH = 65, 64
# Each architecture with the objective it is made for, once; the smallest of its sizes.
ONE_OF_EACH_ARCHITECTURE = {small_gan(*key).network.architecture: key for key in reversed(GAN_PRESETS)}


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("model", "preset"), ONE_OF_EACH_ARCHITECTURE.values(), ids=ONE_OF_EACH_ARCHITECTURE)
def test_every_architecture_trains_over_the_end_of_the_data(
    model: str, preset: str, tmp_path: Path, quiet: Progress
) -> None:
    size = {"dcgan-k4": 16, "dcgan-k5": 16, "mlp-batchnorm": 16}.get(small_gan(model, preset).network.architecture)
    small = {"network.width": 1 / 32, "network.channels": 1} | ({"network.image_size": size} if size else {})
    config = small_gan(model, preset, batch_size=BATCH, steps=3, n_critic=1, warm_start=False, **small)
    run = RunFolder.create(tmp_path, config)
    assert train(config, run, made_up_images(config, IMAGES), quiet).images_seen == 3 * BATCH
    rows = [row for row in run.metrics.read() if row["kind"] == "step"]
    assert [(row["images"], row["epoch"]) for row in rows] == [(64, 1), (128, 2), (192, 3)]
    assert len({row["d_loss"] for row in rows}) == 3
    assert all(math.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))


@pytest.mark.usefixtures("no_figures")
def test_a_translator_trains_over_the_end_of_both_domains(tmp_path: Path, quiet: Progress) -> None:
    tiny: dict[str, Any] = {"network.width": 1 / 32, "network.channels": 1, "pool_images": 50}
    config = small_cycle(batch_size=BATCH, steps=2, **tiny)  # of domain B there are 64
    run = RunFolder.create(tmp_path, config)
    assert train(config, run, made_up_images(config, IMAGES), quiet).step == 2
    rows = [row for row in run.metrics.read() if row["kind"] == "step"]
    assert len({row["g_loss"] for row in rows}) == 2


def test_every_image_is_shown_as_often_as_every_other(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []

    def look(images: Tensor) -> Tensor:
        shown.extend(images[:, 0, 0, 0].tolist())
        return images.float()

    config = small_gan("gan", "mlp-fmnist", batch_size=BATCH)
    training = new_training(config, numbered(config.network.image_size), CPU)
    monkeypatch.setattr(gan, "to_unit_range", look)
    for _ in range(IMAGES):
        training.train_step(0.0)
    assert sorted(shown) == sorted(list(range(IMAGES)) * BATCH)
    passes = [shown[start : start + IMAGES] for start in range(0, len(shown), IMAGES)]
    assert all(sorted(one) == list(range(IMAGES)) for one in passes)
    assert len({tuple(one) for one in passes}) == len(passes)  # in another order each


def numbered(size: int) -> ImageData:
    """Images that are their own numbers."""
    numbers = torch.arange(IMAGES, dtype=torch.uint8)
    return ImageData("numbered", numbers[:, None, None, None].expand(-1, 1, size, size).contiguous())


@pytest.mark.parametrize("first", [0, 1, 63, 64, 65, 129, 10**9])
def test_the_order_of_images_does_not_depend_on_how_it_is_cut_into_batches(first: int) -> None:
    whole = stream_indices(3, first, 3 * BATCH, IMAGES)
    parts = [stream_indices(3, first + start, 48, IMAGES) for start in range(0, 3 * BATCH, 48)]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.usefixtures("no_figures")
def test_a_batch_may_hold_all_images(tmp_path: Path) -> None:
    config = small_gan("dcgan", "dcgan-digits", batch_size=18, steps=2)
    run, summary = run_training(config, tmp_path, Progress(Console(file=io.StringIO())))
    assert summary.images_seen == 36
    epochs = [row["epoch"] for row in run.metrics.read() if row["kind"] == "step"]
    assert list(islice(epochs, 2)) == [1, 2]
