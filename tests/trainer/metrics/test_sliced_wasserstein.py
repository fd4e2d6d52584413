from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]
from scipy.stats import wasserstein_distance  # type: ignore[import-untyped]

from trainer.metrics import sliced_wasserstein
from trainer.metrics.sliced_wasserstein import (
    Pyramid,
    distances_and_error,
    laplacian_level,
    level_count,
    sliced_wasserstein_distance,
)

KERNEL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def noise(seed: int, size: int = 32, channels: int = 1, spread: float = 1.0, count: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(count, channels, size, size, generator=generator)


def average(levels: list[float]) -> float:
    return sum(levels) / len(levels)


@pytest.mark.parametrize(("size", "levels"), [(8, 1), (16, 1), (28, 1), (32, 2), (64, 3), (128, 4)])
def test_there_is_a_level_for_every_halving_down_to_16_pixels(size: int, levels: int) -> None:
    assert level_count(size) == levels


def scipy_pyramid(image: NDArray[Any], levels: int, pyramid: Pyramid) -> list[NDArray[Any]]:
    """Burt & Adelson's pyramid of one plane, with SciPy's convolution."""
    mode = "mirror" if pyramid == "pggan" else "constant"
    result = []
    for _ in range(levels - 1):
        smaller = ndimage.convolve(image, KERNEL, mode=mode)[::2, ::2]
        if pyramid == "pggan":
            sparse = np.zeros_like(image)
            sparse[::2, ::2] = smaller
            larger = ndimage.convolve(sparse, 4 * KERNEL, mode=mode)
        else:
            larger = ndimage.convolve(np.kron(smaller, np.ones((2, 2))), KERNEL, mode=mode)
        result.append(image - larger)
        image = smaller
    return [*result, image]


@pytest.mark.parametrize("pyramid", ["pggan", "mmgeneration"])
@pytest.mark.parametrize("size", [16, 32, 64])
def test_the_pyramid_equals_another_implementation(size: int, pyramid: Pyramid) -> None:
    images = noise(3, size, channels=3, count=2)
    for row in range(2):
        for channel in range(3):
            expected = scipy_pyramid(images[row, channel].double().numpy(), level_count(size), pyramid)
            for level, plane in enumerate(expected):
                actual = laplacian_level(images, level, pyramid)[row, channel].numpy()
                np.testing.assert_allclose(actual, plane, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_distance_along_given_directions_equals_scipys(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Images of 7x7 are their own and only patches.
    directions = np.random.default_rng(5).standard_normal((channels * 49, 6))
    monkeypatch.setattr(sliced_wasserstein, "_directions", lambda *_: torch.from_numpy(directions))
    sets = noise(0, 7, channels, count=40), noise(1, 7, channels, count=40).square()
    projected = []
    for images in sets:
        values = images.double().numpy().transpose(1, 0, 2, 3).reshape(channels, -1)
        values = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
        projected.append(values.reshape(channels, -1, 49).transpose(1, 0, 2).reshape(-1, channels * 49) @ directions)
    expected = np.mean([wasserstein_distance(*(each[:, index] for each in projected)) for index in range(6)])
    assert sliced_wasserstein_distance(*sets) == pytest.approx([1000 * expected], rel=1e-4)


def test_directions_are_unit_vectors_and_a_gray_patch_counts_as_three_channels() -> None:
    colour = sliced_wasserstein._directions(3, 147, 0)
    np.testing.assert_allclose(colour.norm(dim=0), 1, rtol=1e-9)
    gray = sliced_wasserstein._directions(1, 49, 0)
    np.testing.assert_allclose(gray, colour.view(3, 49, -1).sum(0))


def test_gray_images_score_as_the_same_images_in_three_channels() -> None:
    one, other = noise(0), noise(1).abs()
    gray = sliced_wasserstein_distance(one, other)
    colour = sliced_wasserstein_distance(one.expand(-1, 3, -1, -1), other.expand(-1, 3, -1, -1))
    assert gray == pytest.approx(colour, rel=1e-4)


def test_patches_are_windows_of_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliced_wasserstein, "_CHUNK_PIXELS", 1)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    images = torch.stack([torch.stack([rows, columns, torch.full_like(rows, index)]) for index in range(5)])
    patches = sliced_wasserstein._Patches(images, 0, "pggan", np.random.default_rng(0))
    found = torch.cat(list(patches.chunks())).view(5, 128, 3, 7, 7)
    steps = torch.arange(7.0)
    assert torch.equal(found[:, :, 0] - found[:, :, 0, :1, :1], steps[:, None].expand(5, 128, 7, 7))
    assert torch.equal(found[:, :, 1] - found[:, :, 1, :1, :1], steps.expand(5, 128, 7, 7))
    assert torch.equal(found[:, :, 2], torch.arange(5.0).view(5, 1, 1, 1).expand(5, 128, 7, 7))
    corners = set(found[:, :, 0, 0, 0].flatten().tolist())
    assert corners == set(range(10))  # every place where a patch fits is taken by some of 640


def test_equal_patches_have_distance_0() -> None:
    images = noise(0, 7)
    assert sliced_wasserstein_distance(images, images) == [0.0]


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_of_one_distribution_are_closer_than_samples_of_two(channels: int) -> None:
    smooth = torch.nn.functional.avg_pool2d(noise(2, channels=channels), 5, 1, 2)
    same = average(sliced_wasserstein_distance(noise(0, channels=channels), noise(1, channels=channels)))
    other = average(sliced_wasserstein_distance(noise(0, channels=channels), smooth))
    assert other > 1.5 * same


def test_the_distance_grows_with_noise() -> None:
    smooth = torch.nn.functional.avg_pool2d(noise(2), 5, 1, 2)
    distances = [
        average(sliced_wasserstein_distance(smooth, smooth + noise(3, spread=spread))) for spread in (0, 0.1, 1)
    ]
    assert distances == sorted(distances)
    assert distances[2] > 3 * distances[0]


def test_the_metric_depends_only_on_images_and_seed() -> None:
    torch.manual_seed(1)
    first = sliced_wasserstein_distance(noise(0), noise(1))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert sliced_wasserstein_distance(noise(0), noise(1)) == first
    torch.manual_seed(1)
    sliced_wasserstein_distance(noise(0), noise(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert sliced_wasserstein_distance(noise(0), noise(1), seed=1) != first


@pytest.mark.parametrize("channels", [1, 3])
def test_the_error_is_the_spread_over_sets_of_images(channels: int) -> None:
    # Images of one brightness each, so that sets of them differ.
    def images(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        bright = torch.rand(96, channels, 1, 1, generator=generator)
        return (bright + 0.1 * torch.randn(96, channels, 16, 16, generator=generator)).clamp(-1, 1)

    found = [distances_and_error(images(seed), images(seed + 100) ** 4, seed) for seed in range(12)]
    spread = np.std([average(levels) for levels, _ in found], ddof=1)
    assert np.mean([error for _, error in found]) == pytest.approx(spread, rel=0.6)
    levels, _ = found[0]
    assert levels == sliced_wasserstein_distance(images(0), images(100) ** 4, 0)


def test_few_images_have_no_error() -> None:
    assert math.isnan(distances_and_error(noise(0)[:8], noise(1)[:8])[1])


def test_a_memory_limit_does_not_change_the_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sliced_wasserstein_distance(noise(0, channels=3), noise(1, channels=3))
    monkeypatch.setattr(sliced_wasserstein, "_KEPT_BYTES", 0)
    monkeypatch.setattr(sliced_wasserstein, "_PROJECTED_BYTES", 4 * 64 * 128 * 100)
    monkeypatch.setattr(sliced_wasserstein, "_CHUNK_PIXELS", 3 * 32 * 32 * 20)
    assert sliced_wasserstein_distance(noise(0, channels=3), noise(1, channels=3)) == pytest.approx(whole, rel=1e-5)


def test_brightness_and_contrast_of_all_images_make_no_difference() -> None:
    images, others = noise(0), noise(1)
    expected = sliced_wasserstein_distance(images, others, seed=4)
    assert sliced_wasserstein_distance(images, 3 * others + 1, seed=4) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("pyramid", ["pggan", "mmgeneration"])
def test_uint8_and_float_images_score_the_same(pyramid: Pyramid) -> None:
    one, other = (torch.randint(0, 256, (16, 1, 32, 32), dtype=torch.uint8) for _ in range(2))
    of_values = sliced_wasserstein_distance(one / 127.5 - 1, other / 127.5 - 1, pyramid=pyramid)
    assert sliced_wasserstein_distance(one, other, pyramid=pyramid) == pytest.approx(of_values, rel=1e-5)


def test_images_that_are_all_the_same_gray_have_a_finite_distance() -> None:
    distance = average(sliced_wasserstein_distance(noise(0), torch.zeros(64, 1, 32, 32)))
    assert 100 < distance < 2000


@pytest.mark.parametrize("shape", [(3, 1, 16, 16), (4, 1, 8, 8), (4, 3, 16, 16)])
def test_sets_of_different_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        sliced_wasserstein_distance(torch.zeros(4, 1, 16, 16), torch.zeros(shape))
