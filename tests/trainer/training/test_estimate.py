from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from msgspec.structs import replace

from tests.trainer.conftest import made_up_images, small_config, small_gan
from tests.trainer.tiny_trainings import CPU
from trainer.errors import UserError
from trainer.presets import MODELS, PRESETS
from trainer.training.base import Measurements, Training
from trainer.training.estimate import estimate_s, total_steps
from trainer.training.gan import GanTraining


def first_preset(model: str) -> str:
    return next(name for owner, name in PRESETS if owner == model)


@pytest.mark.parametrize("model", MODELS)
def test_an_estimate_leaves_the_random_state_as_it_was(model: str) -> None:
    config = small_config(model, first_preset(model))
    before = torch.get_rng_state()
    assert estimate_s(config, made_up_images(config), CPU) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_the_time_is_that_of_the_timed_steps_for_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def step(training: GanTraining, _progress: float) -> dict[str, torch.Tensor]:
        training.state.images_seen += training.batch_size
        clock[0] += 0.25
        return {}

    monkeypatch.setattr(GanTraining, "train_step", step)
    monkeypatch.setattr("trainer.training.estimate.time.perf_counter", lambda: clock[0])
    config = small_gan("dcgan", "dcgan-digits", steps=1000)
    assert estimate_s(config, made_up_images(config), CPU) == pytest.approx(250)


def test_a_growing_run_is_timed_at_all_its_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    step = GanTraining.train_step

    def watched(training: Training, progress: float) -> object:
        assert isinstance(training, GanTraining)
        result = step(training, progress)
        sizes.append(training.output_size)
        return result

    monkeypatch.setattr(GanTraining, "train_step", watched)
    config = small_gan("pggan", "pggan-small", steps=12)
    estimate_s(config, made_up_images(config), CPU)
    assert set(sizes) == {4, 8, 16}


def test_another_image_size_is_timed_on_networks_of_that_size(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    new = GanTraining.__init__

    def watched(training: GanTraining, config: object, data: object, device: object) -> None:
        seen.append(tuple(data.images.shape[1:]))  # type: ignore[attr-defined]
        new(training, config, data, device)  # type: ignore[arg-type]

    monkeypatch.setattr(GanTraining, "__init__", watched)
    config = small_gan("dcgan", "dcgan-digits")
    estimate_s(config, made_up_images(config), CPU, size=(64, 48))
    assert seen == [(1, 64, 48)]


def test_a_size_that_the_networks_cannot_make_is_an_error() -> None:
    config = small_gan("dcgan", "dcgan-digits")
    with pytest.raises(UserError, match="--image-size 33"):
        estimate_s(config, made_up_images(config), CPU, size=(33, 33))


@pytest.mark.parametrize(
    ("length", "steps"),
    [({"steps": 7}, 7), ({"epochs": 3, "steps": None}, 14), ({"images": 9, "steps": None}, 3)],
)
def test_any_length_has_a_number_of_steps(length: dict[str, int | None], steps: int) -> None:
    assert total_steps(small_gan("dcgan", "dcgan-digits", **length), 18) == steps


def test_a_growing_batch_size_has_no_known_number_of_steps() -> None:
    config = small_gan("pggan", "pggan-small", steps=None, images=100)
    assert total_steps(config, 18) == 25
    assert config.growth is not None
    growing = replace(config, growth=replace(config.growth, batch_sizes={16: 2}))
    assert total_steps(growing, 18) is None


def test_a_deterministic_run_is_timed_with_its_own_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also because cuBLAS reads its settings once: after other steps, the run itself would fail."""
    events: list[object] = []

    @contextmanager
    def noted(device: torch.device, *, wanted: bool) -> Iterator[None]:
        events.append((device, wanted))
        yield
        events.append("left")

    step = GanTraining.train_step

    def note_step(training: GanTraining, progress: float) -> Measurements:
        events.append("step")
        return step(training, progress)

    monkeypatch.setattr("trainer.training.estimate.deterministic", noted)
    monkeypatch.setattr(GanTraining, "train_step", note_step)
    config = small_gan("dcgan", "dcgan-digits", deterministic=True)
    estimate_s(config, made_up_images(config), CPU)
    assert (events[0], events[-1], set(events[1:-1])) == ((CPU, True), "left", {"step"})
