from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from trainer.metrics.translation import SCALE_WEIGHTS, absolute_errors, ms_ssims, scale_weights


def mean_absolute_error(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(absolute_errors(first, second).mean())


def ms_ssim(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(ms_ssims(first, second).mean())


METRICS = [mean_absolute_error, ms_ssim]
Metric = Callable[[torch.Tensor, torch.Tensor], float]


def blobs(count: int = 6, size: int = 32, channels: int = 3) -> torch.Tensor:
    """Smooth images in [-1, 1]."""
    coarse = torch.rand(count, channels, 4, 4) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def flat(level: float, count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.full((count, 1, size, size), level)


@pytest.mark.parametrize("size", [32, 64, 128, 176])
@pytest.mark.parametrize("channels", [1, 3])
def test_identical_images_have_similarity_1_and_error_0(size: int, channels: int) -> None:
    images = blobs(2, size, channels)
    assert ms_ssim(images, images) == pytest.approx(1, abs=1e-6)
    assert mean_absolute_error(images, images) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_a_pair_makes_no_difference(metric: Metric) -> None:
    first, second = blobs(), blobs()
    assert metric(first, second) == pytest.approx(metric(second, first), rel=1e-5)


@pytest.mark.parametrize("size", [32, 64])
def test_more_noise_lowers_similarity_and_raises_the_error(size: int) -> None:
    images, noise = 0.5 * blobs(size=size), torch.randn(6, 3, size, size)
    noisy = [images + spread * noise for spread in (0.0, 0.02, 0.05, 0.1, 0.2)]
    similarities = [ms_ssim(images, each) for each in noisy]
    errors = [mean_absolute_error(images, each) for each in noisy]
    assert similarities == sorted(similarities, reverse=True)
    assert errors == sorted(errors)
    assert len(set(similarities)) == len(set(errors)) == len(noisy)


def test_black_against_white_is_an_error_of_1() -> None:
    assert mean_absolute_error(flat(-1), flat(1)) == 1
    assert mean_absolute_error(flat(-0.5), flat(0.5)) == pytest.approx(0.5)


@pytest.mark.parametrize(("size", "scales"), [(32, 2), (64, 3), (128, 4), (176, 5)])
@pytest.mark.parametrize(("first", "second"), [(-1.0, 1.0), (-0.2, 0.6), (0.0, 0.1)])
def test_flat_images_match_the_closed_form(size: int, scales: int, first: float, second: float) -> None:
    # Contrast and structure of two flat images are alike, so only the coarsest scale's luminance term is left.
    x, y, c1 = (first + 1) / 2, (second + 1) / 2, 0.01**2
    luminance = (2 * x * y + c1) / (x**2 + y**2 + c1)
    exponent = SCALE_WEIGHTS[scales - 1] / sum(SCALE_WEIGHTS[:scales])
    similarity = ms_ssim(flat(first, 1, size), flat(second, 1, size))
    assert similarity == pytest.approx(luminance**exponent, rel=0.01)


@pytest.mark.parametrize("metric", METRICS)
def test_a_set_has_the_mean_of_its_pairs(metric: Metric) -> None:
    first, second = blobs(70), blobs(70)  # more than are compared at a time
    alone = [metric(one[None], other[None]) for one, other in zip(first, second, strict=True)]
    assert metric(first, second) == pytest.approx(sum(alone) / 70, rel=1e-5)


@pytest.mark.parametrize(
    ("size", "scales"), [(22, 2), (43, 2), (44, 3), (98, 3), (99, 4), (175, 4), (176, 5), (1024, 5)]
)
def test_the_number_of_scales_depends_on_the_image_size(size: int, scales: int) -> None:
    weights = scale_weights(size)
    assert len(weights) == scales
    assert sum(weights) == pytest.approx(1)
    ratios = [weight / standard for weight, standard in zip(weights, SCALE_WEIGHTS, strict=False)]
    assert ratios == pytest.approx([ratios[0]] * scales)


@pytest.mark.parametrize("size", [22, 44, 99, 176])
def test_the_smallest_image_of_each_number_of_scales_can_be_compared(size: int) -> None:
    images = blobs(1, size, 1)
    assert ms_ssim(images, images) == pytest.approx(1, abs=1e-6)


def test_images_too_small_for_two_scales_are_refused() -> None:
    with pytest.raises(ValueError, match=r"21 pixels are too small.*use at least 22"):
        ms_ssim(blobs(size=21), blobs(size=21))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("first", "second"), [((2, 3, 32, 32), (2, 1, 32, 32)), ((0, 3, 32, 32),) * 2, ((3, 32, 32),) * 2]
)
def test_sets_that_are_not_pairs_are_refused(metric: Metric, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="pairs of images"):
        metric(torch.zeros(first), torch.zeros(second))
