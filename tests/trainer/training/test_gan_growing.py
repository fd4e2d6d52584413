from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ganserve.latents import latents_from_seed
from tests.trainer.tiny_trainings import CPU, box_means, growing_config, noise_images, train_run
from trainer.config import GanConfig
from trainer.data.datasets import stream_indices
from trainer.errors import UserError
from trainer.models.growth import GrowthConfig, growth_at
from trainer.models.progressive import ProgressiveNetwork
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.training import gan
from trainer.training.base import Evaluation
from trainer.training.gan import GanTraining
from trainer.training.gan_step import GanState, StepResult, train_step

StopAfter = Callable[[int], Callable[[], bool]]


@dataclass(frozen=True)
class Step:
    """What a step was given."""

    images_seen: int
    size: int
    alpha: float
    batch: int
    fresh: bool  # the optimisers remember nothing
    reals: Tensor = field(compare=False, repr=False)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Every step that is taken."""
    taken: list[Step] = []

    def spy(state: GanState, config: GanConfig, reals: Tensor) -> StepResult:
        networks = [network for network in state.networks.values() if isinstance(network, ProgressiveNetwork)]
        ((size, alpha),) = {(network.resolution, network.alpha) for network in networks}  # the average grows as well
        assert len(networks) == 3
        assert reals.shape[-2:] == (size, size)
        (fresh,) = {not optimizer.state for optimizer in state.optimizers.values()}
        taken.append(Step(state.images_seen, size, alpha, len(reals), fresh, reals.clone()))
        return train_step(state, config, reals)

    monkeypatch.setattr(gan, "train_step", spy)
    return taken


def start(config: GanConfig) -> GanTraining:
    return GanTraining(config, noise_images(config), CPU)


def take(training: GanTraining, count: int) -> None:
    for _ in range(count):
        training.train_step(0.0)


PHASES = GrowthConfig(stabilise_images=8, fade_images=8)
# The schedule, the batch size, and the size, alpha and batch of each step.
SCHEDULES: dict[str, tuple[GrowthConfig, int, list[tuple[int, float]], list[int]]] = {
    "phases of whole batches": (
        PHASES,
        4,
        [(4, 1), (4, 1), (8, 0), (8, 0.5), (8, 1), (8, 1), (16, 0), (16, 0.5), (16, 1), (16, 1)],
        [4] * 10,
    ),
    "phases that end within a batch": (
        PHASES,
        3,
        [(4, 1)] * 3 + [(8, 0.125), (8, 0.5), (8, 0.875), (8, 1), (8, 1), (16, 0), (16, 0.375), (16, 0.75), (16, 1)],
        [3] * 12,
    ),
    "smaller batches of larger images": (
        GrowthConfig(stabilise_images=8, fade_images=8, batch_sizes={8: 3, 16: 2}),
        4,
        [(4, 1)] * 2 + [(8, 0), (8, 0.375), (8, 0.75), (8, 1), (8, 1), (8, 1), (16, 0.25), (16, 0.5), (16, 0.75)],
        [4] * 2 + [3] * 6 + [2] * 3,
    ),
    "no fades, from 8x8": (
        GrowthConfig(start_resolution=8, stabilise_images=8, fade_images=0),
        4,
        [(8, 1), (8, 1), (16, 1), (16, 1)],
        [4] * 4,
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_step_has_the_growth_and_the_batch_of_its_start(name: str, steps: list[Step]) -> None:
    growth, batch_size, growths, batches = SCHEDULES[name]
    training = start(growing_config(growth=growth, batch_size=batch_size))
    for (size, alpha), batch in zip(growths, batches, strict=True):
        grows = bool(steps) and steps[-1].size < size
        assert training.about_to_grow == grows
        assert training.batch_size == batch
        measured = training.train_step(0.0)
        assert (training.output_size, training.fade) == (size, alpha)
        assert (measured["resolution"], measured["alpha"]) == (torch.tensor(size), torch.tensor(alpha))
        expected = growth_at(growth, 16, steps[-1].images_seen)
        assert (expected.resolution, expected.alpha) == (size, alpha)
    assert [(step.size, step.alpha) for step in steps] == growths
    assert [step.batch for step in steps] == batches
    assert [step.images_seen for step in steps] == [sum(batches[:index]) for index in range(len(batches))]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_optimisers_forget_when_the_resolution_changes_and_at_no_other_time(name: str, steps: list[Step]) -> None:
    growth, batch_size, growths, _ = SCHEDULES[name]
    take(start(growing_config(growth=growth, batch_size=batch_size)), len(growths))
    sizes = [size for size, _ in growths]
    assert [step.fresh for step in steps] == [True, *(new != old for old, new in pairwise(sizes))]


@pytest.mark.parametrize("blend", [True, False])
def test_reals_are_as_coarse_as_the_fakes(blend: bool, steps: list[Step]) -> None:
    config = growing_config(growth=GrowthConfig(stabilise_images=8, fade_images=8, blend_reals=blend))
    data = noise_images(config)
    take(GanTraining(config, data, CPU), 10)
    blended = 0
    for step in steps:
        chosen = stream_indices(config.seed, step.images_seen, step.batch, len(data))
        pixels = data.images[chosen].numpy().astype(np.float32) / 127.5 - 1
        expected = box_means(pixels, step.size)
        if blend and step.alpha < 1:
            coarse = box_means(pixels, step.size // 2).repeat(2, axis=2).repeat(2, axis=3)
            expected = step.alpha * expected + (1 - step.alpha) * coarse
            blended += 1
        np.testing.assert_allclose(step.reals.numpy(), expected, atol=1e-5)
    assert blended == (4 if blend else 0)


@pytest.mark.parametrize(("size", "alpha"), [(4, 1.0), (8, 0.0), (8, 0.5), (8, 1.0), (16, 0.5), (16, 1.0)])
def test_a_restored_training_has_the_growth_of_its_last_step(size: int, alpha: float) -> None:
    training = start(growing_config())
    training.restored(size, alpha)
    assert (training.output_size, training.fade) == (size, alpha)
    for network in training.state.networks.values():
        assert isinstance(network, ProgressiveNetwork)
        assert (network.resolution, network.alpha) == (size, alpha)


@pytest.mark.parametrize(("size", "alpha"), [(32, 1.0), (7, 1.0), (4, 0.5)])
def test_a_growth_that_the_network_cannot_have_is_refused(size: int, alpha: float) -> None:
    with pytest.raises(UserError, match=r"does not fit this run's config\.json"):
        start(growing_config()).restored(size, alpha)


# The last step of the run: its size and the weight of the newest stage.
@pytest.mark.parametrize(
    ("length", "size", "alpha", "interrupted"),
    [(2, 4, 1.0, False), (4, 8, 0.5, False), (4, 8, 0.5, True), (6, 8, 1.0, False), (7, 16, 0.0, False)],
)
def test_a_run_that_ends_early_exports_the_average_as_it_is_then(
    length: int,
    size: int,
    alpha: float,
    interrupted: bool,
    tmp_path: Path,
    quiet: Progress,
    stop_after: StopAfter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = growing_config(steps=10 if interrupted else length)
    run = RunFolder.create(tmp_path, config)
    options = {"stop_requested": stop_after(length)} if interrupted else {}
    training = train_run(config, noise_images(config), run, quiet, monkeypatch, **options)
    assert (training.state.step, training.output_size, training.fade) == (length, size, alpha)
    (exported,) = load_generators(run.path, "last")
    latents = torch.from_numpy(latents_from_seed(1, 5, 8))
    with torch.inference_mode():
        images, expected = exported.network(latents), training.state.networks["ema_generator"](latents)
    assert images.shape == (5, 1, size, size)
    torch.testing.assert_close(images, expected, rtol=1e-4, atol=1e-5)
    assert (exported.size, exported.latent_dim, exported.channels) == ((size, size), 8, 1)
    assert (exported.name, exported.suffix, exported.training["step"]) == ("pggan", "", length)


@pytest.mark.parametrize("length", [2, 3, 4])  # before a growth, and in its fade
def test_an_interruption_leaves_the_growth_as_it_would_have_been(
    length: int,
    steps: list[Step],
    tmp_path: Path,
    quiet: Progress,
    stop_after: StopAfter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = growing_config(steps=8)
    data = noise_images(config)
    whole = RunFolder.create(tmp_path / "whole", config)
    train_run(config, data, whole, quiet, monkeypatch)
    expected = steps.copy()
    steps.clear()
    parts = RunFolder.create(tmp_path / "parts", config)
    train_run(config, data, parts, quiet, monkeypatch, stop_requested=stop_after(length))
    assert len(steps) == length
    train_run(config, data, parts, quiet, monkeypatch, resume=True)
    assert steps == expected
    assert all(torch.equal(old.reals, new.reals) for old, new in zip(expected, steps, strict=True))
    one, other = (load_file(run.checkpoint_path("last")) for run in (whole, parts))
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_the_best_checkpoint_is_the_best_of_those_with_the_largest_images(
    tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Scored before each growth, after each pass over 18 images, and at the end.
    scores = iter([1.0, 2.0, 3.0, 6.0, 5.0, 5.5])
    scored: list[tuple[int, int]] = []

    def evaluate(training: GanTraining) -> Evaluation:
        scored.append((training.state.step, training.output_size))
        return Evaluation(next(scores), {}, {}, "")

    monkeypatch.setattr(GanTraining, "evaluate", evaluate)
    config = growing_config(steps=16, evaluate_every_steps=1)
    run = RunFolder.create(tmp_path, config)
    train_run(config, noise_images(config), run, quiet, monkeypatch)
    assert scored == [(2, 4), (5, 8), (6, 8), (9, 16), (14, 16), (16, 16)]
    (best,) = load_generators(run.path, "best")
    assert (best.training["step"], best.size) == (14, (16, 16))
