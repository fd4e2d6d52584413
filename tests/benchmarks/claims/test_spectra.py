from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

from benchmarks.claims.spectra import high_frequency_share, laplacian_variance, log_spectrum, stripes, stripes_of

SIZE = 32


def wave(across: float, down: float, size: int = SIZE) -> NDArray[np.float32]:
    """One gray image of a wave; frequencies in cycles per pixel."""
    y, x = np.mgrid[:size, :size]
    image: NDArray[np.float32] = np.cos(2 * np.pi * (across * x + down * y)).astype(np.float32)
    return image[None, None]


def noise(count: int = 64, seed: int = 0, smooth: float = 0.0) -> NDArray[np.float32]:
    images = np.random.default_rng(seed).normal(0, 0.3, (count, 1, SIZE, SIZE))
    if smooth:
        images = ndimage.gaussian_filter(images, (0, 0, smooth, smooth), mode="wrap") * 5
    return images.clip(-1, 1).astype(np.float32)


def test_the_laplacian_of_a_wave_matches_the_closed_form() -> None:
    # The stencil multiplies a wave along x by 2 cos(2 pi f) - 2; complete periods give the variance of a cosine.
    across = 0.125
    image = wave(across, 0, size=34)  # 32 inner pixels: four periods
    gain = 2 * np.cos(2 * np.pi * across) - 2
    assert laplacian_variance(image)[0] == pytest.approx(gain**2 / 2, rel=1e-4)


def test_the_laplacian_equals_scipys() -> None:
    images = noise(3)
    expected = [ndimage.laplace(image[0].astype(float))[1:-1, 1:-1].var() for image in images]
    np.testing.assert_allclose(laplacian_variance(images), expected, rtol=1e-9)


def test_blurring_lowers_sharpness_and_a_ramp_has_none() -> None:
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)[None, None, None].repeat(SIZE, axis=2)
    assert laplacian_variance(ramp)[0] == pytest.approx(0, abs=1e-12)
    blurred = ndimage.gaussian_filter(noise(), (0, 0, 1, 1))
    assert laplacian_variance(blurred).mean() < 0.1 * laplacian_variance(noise()).mean()


@pytest.mark.parametrize(("frequency", "share"), [(0.125, 0.0), (0.25, 1.0), (0.375, 1.0), (0.5, 1.0)])
def test_all_power_of_a_wave_is_on_one_side_of_the_limit(frequency: float, share: float) -> None:
    assert high_frequency_share(wave(frequency, 0) + 0.5) == pytest.approx(share, abs=1e-6)


def test_waves_share_their_power() -> None:
    both = np.sqrt(3) * wave(0.125, 0) + wave(0, 0.375)
    assert high_frequency_share(both) == pytest.approx(0.25, abs=1e-5)


def test_white_noise_has_equal_power_at_all_frequencies() -> None:
    down, across = np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE))
    expected = (np.hypot(down, across) >= 0.25).sum() / (SIZE**2 - 1)
    assert high_frequency_share(noise(200)) == pytest.approx(expected, abs=0.02)


def test_an_even_image_has_no_high_frequencies_and_a_finite_spectrum() -> None:
    even = np.zeros((2, 3, SIZE, SIZE), np.float32)
    assert high_frequency_share(even) == 0.0
    assert np.isfinite(log_spectrum(even)).all()


def test_color_is_averaged_to_gray() -> None:
    gray = noise(4)
    assert log_spectrum(gray.repeat(3, axis=1)) == pytest.approx(log_spectrum(gray))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("frequency", [0.125, 0.25, 0.40625])
def test_diagonal_stripes_are_found_in_both_directions(sign: int, frequency: float) -> None:
    reals, fakes = noise(seed=1, smooth=1.0), noise(seed=2, smooth=1.0)
    clean = stripes(fakes, reals).diagonal_db
    striped = stripes(fakes + 0.2 * wave(frequency, sign * frequency), reals).diagonal_db
    assert striped > clean + 1
    assert abs(clean) < 0.7


@pytest.mark.parametrize("across_down", [(0.25, 0.0), (0.0, 0.25), (0.5, 0.0)])
def test_vertical_stripes_are_not_diagonal(across_down: tuple[float, float]) -> None:
    reals, fakes = noise(seed=1, smooth=1.0), noise(seed=2, smooth=1.0)
    assert stripes(fakes + 0.2 * wave(*across_down), reals).diagonal_db == pytest.approx(
        stripes(fakes, reals).diagonal_db, abs=0.3
    )


def test_noise_and_blur_do_not_count_as_stripes() -> None:
    reals = noise(200, seed=1, smooth=1.0)
    for fakes in (noise(200, seed=2), noise(200, seed=3, smooth=2.0)):
        found = stripes(fakes, reals)
        assert abs(found.diagonal_db) < 0.7
        assert abs(found.stride_db) < 2.0


@pytest.mark.parametrize("across_down", [(0.25, 0.25), (0.5, 0.5), (0.25, 0.5), (0.5, 0.25)])
def test_checkerboards_of_transposed_convolutions_are_peaks(across_down: tuple[float, float]) -> None:
    reals, fakes = noise(seed=1, smooth=1.0), noise(seed=2, smooth=1.0)
    clean = stripes(fakes, reals).stride_db
    assert stripes(fakes + 0.1 * wave(*across_down), reals).stride_db > clean + 2


def test_a_peak_at_another_frequency_is_not_a_stride_peak() -> None:
    excess = np.zeros((SIZE, SIZE))
    excess[5, 9] = 40.0
    assert stripes_of(excess).stride_db == pytest.approx(0.0)


def test_the_height_of_one_peak_is_averaged_over_the_eight_points() -> None:
    excess = np.zeros((SIZE, SIZE))
    excess[8, 8] = 8.0  # 1/4 across, 1/4 down; one of (1/4, 1/2) x (1/4, 1/2) x both diagonals
    assert stripes_of(excess).stride_db == pytest.approx(1.0)
