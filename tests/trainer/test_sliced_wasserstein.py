from __future__ import annotations

import pytest
import torch

from trainer.metrics.sliced_wasserstein import sliced_wasserstein_distance


def noise(seed: int, size: int = 32, channels: int = 1, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(64, channels, size, size, generator=generator)


def average(levels: list[float]) -> float:
    return sum(levels) / len(levels)


@pytest.mark.parametrize(("size", "levels"), [(8, 1), (16, 1), (28, 1), (32, 2), (64, 3)])
def test_there_is_a_level_for_every_halving_down_to_16_pixels(size: int, levels: int) -> None:
    assert len(sliced_wasserstein_distance(noise(0, size), noise(1, size))) == levels


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_of_one_distribution_are_nearer_than_samples_of_two(channels: int) -> None:
    smooth = torch.nn.functional.avg_pool2d(noise(2, channels=channels), 5, 1, 2)
    same = average(sliced_wasserstein_distance(noise(0, channels=channels), noise(1, channels=channels)))
    other = average(sliced_wasserstein_distance(noise(0, channels=channels), smooth))
    assert other > 1.5 * same


def test_the_figure_depends_on_nothing_but_images_and_seed() -> None:
    torch.manual_seed(1)
    first = sliced_wasserstein_distance(noise(0), noise(1))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert sliced_wasserstein_distance(noise(0), noise(1)) == first
    torch.manual_seed(1)
    sliced_wasserstein_distance(noise(0), noise(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_shift_of_the_patches_distribution_has_its_closed_form_scale() -> None:
    # After each channel is normalised, a constant factor or offset of all images makes no difference.
    images = noise(0)
    levels = sliced_wasserstein_distance(images, 3 * images + 1, seed=4)
    baseline = sliced_wasserstein_distance(images, images, seed=4)
    assert levels == pytest.approx(baseline, abs=1)
