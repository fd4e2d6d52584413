from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal  # type: ignore[import-untyped]
from torchmetrics.functional.image import structural_similarity_index_measure

from trainer.metrics import diversity
from trainer.metrics.diversity import (
    ms_ssim_between,
    multiscale_similarity,
    scale_count,
    shift_count,
    similarity_of_pairs,
)
from trainer.metrics.translation import SCALE_WEIGHTS


def pixels(count: int, size: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear")
    return (255 * smooth).round().byte()


def scipy_ms_ssim(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Wang's measure for two planes with values 0..255, with SciPy's convolution; the window shrinks with the image."""
    result = 1.0
    scales = min(5, int(np.log2(len(one))) + 1)
    for scale in range(scales):
        size = min(11, *one.shape)
        window = signal.windows.gaussian(size, 1.5 * size / 11)
        window = np.outer(window, window) / window.sum() ** 2
        m1, m2, s11, s22, s12 = (
            signal.convolve2d(image, window, mode="valid")
            for image in (one, other, one * one, other * other, one * other)
        )
        s11, s22, s12 = s11 - m1 * m1, s22 - m2 * m2, s12 - m1 * m2
        contrast = (2 * s12 + 58.5225) / (s11 + s22 + 58.5225)
        luminance = (2 * m1 * m2 + 6.5025) / (m1 * m1 + m2 * m2 + 6.5025)
        value = (luminance * contrast).mean() if scale == scales - 1 else contrast.mean()
        exponent = SCALE_WEIGHTS[scale] * sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:scales])
        result *= max(value, 0) ** exponent
        one, other = (
            each.reshape(len(one) // 2, 2, -1, 2).mean((1, 3)) if len(one) > 1 else each for each in (one, other)
        )
    return result


@pytest.mark.parametrize("size", [4, 16, 32, 64])
def test_it_equals_another_implementation(size: int) -> None:
    images = pixels(6, size)
    planes = images[:, 0].double().numpy()
    pairs = [(index, (index + shift) % 6) for shift in (1, 2) for index in range(6)]
    expected = np.mean([scipy_ms_ssim(planes[one], planes[other]) for one, other in pairs])
    assert 0.01 < expected < 0.99
    assert ms_ssim_between(images) == pytest.approx(expected, abs=2e-4)


def test_the_contrast_at_one_scale_equals_that_of_torchmetrics() -> None:
    images = pixels(8, 64, channels=3).float()
    _, contrast = structural_similarity_index_measure(
        images[0::2], images[1::2], data_range=255.0, reduction="none", return_contrast_sensitivity=True
    )
    torch.testing.assert_close(diversity._similarity(images[0::2], images[1::2])[1], contrast, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("size", "scales"), [(1, 1), (4, 3), (8, 4), (15, 4), (16, 5), (28, 5), (64, 5), (1024, 5)])
def test_there_is_one_scale_per_halving_up_to_five(size: int, scales: int) -> None:
    assert scale_count(size) == scales


@pytest.mark.parametrize("size", [4, 7, 28, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_images_have_similarity_1_at_any_size(size: int, channels: int) -> None:
    images = pixels(3, size, channels).float()
    torch.testing.assert_close(multiscale_similarity(images, images), torch.ones(3))


def test_collapsed_samples_are_more_similar_than_real_images() -> None:
    various = pixels(64, 32)
    nearly_one = (various[:1].float() + 4 * torch.randn(64, 1, 32, 32)).clamp(0, 255).byte()
    assert ms_ssim_between(nearly_one) > 0.8
    assert ms_ssim_between(various) < 0.5


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pixels(9, 16)
    whole = similarity_of_pairs(images)
    monkeypatch.setattr(diversity, "_CHUNK_PIXELS", 3 * 16 * 16)
    chunked = similarity_of_pairs(images)
    assert (chunked.mean, chunked.standard_error) == pytest.approx((whole.mean, whole.standard_error), rel=1e-6)


@pytest.mark.parametrize(
    ("shape", "shifts"),
    [
        ((2, 1, 32, 32), 1),
        ((3, 1, 32, 32), 1),
        ((5, 1, 32, 32), 2),
        ((512, 1, 32, 32), 16),
        ((512, 3, 64, 64), 1),
        ((10**4, 1, 32, 32), 1),
    ],
)
def test_small_sets_of_images_have_more_partners(shape: tuple[int, ...], shifts: int) -> None:
    assert shift_count(shape) == shifts
    assert 2 * shifts < shape[0] or shifts == 1  # no pair is compared twice


def test_the_standard_error_is_the_spread_over_sets_of_images() -> None:
    found = [similarity_of_pairs(pixels(40, 8, seed=seed)) for seed in range(30)]
    spread = np.std([each.mean for each in found], ddof=1)
    assert np.mean([each.standard_error for each in found]) == pytest.approx(spread, rel=0.35)
    assert {each.pairs for each in found} == {640}


def test_uint8_and_float_images_score_the_same() -> None:
    images = pixels(4, 16)
    assert ms_ssim_between(images.float() / 127.5 - 1) == pytest.approx(ms_ssim_between(images), abs=1e-5)


def test_a_single_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        ms_ssim_between(pixels(1, 16))
