from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from client.errors import InvalidRequest
from client.explore.directions import MAX_LATENT_DIM, pairs_for, small, strongest_directions

DIM = 12


def linear_generator(strengths: list[float], seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orthonormal directions (k, DIM), and what 1 along each adds to the 4x4 pixels: (k, 16), orthogonal too."""
    generator = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(generator.standard_normal((DIM, len(strengths))))
    patterns, _ = np.linalg.qr(generator.standard_normal((16, len(strengths))))
    return directions.T, np.array(strengths)[:, np.newaxis] * patterns.T


def test_the_directions_of_a_linear_generator_are_found_in_order() -> None:
    directions, patterns = linear_generator([40.0, 20.0, 10.0])

    def generate(latents: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
        pixels = 128 + latents @ directions.T @ patterns
        images = np.clip(np.round(pixels), 0, 255).astype(np.uint8).reshape(-1, 4, 4, 1)
        yield images[:5]  # parts of any size
        yield images[5:]

    found = strongest_directions(generate, DIM)
    np.testing.assert_allclose(np.abs(np.sum(found.vectors[:3] * directions, axis=1)), 1, atol=0.01)
    np.testing.assert_allclose(found.shares[:3], np.array([1600, 400, 100]) / 2100, atol=0.01)
    assert found.linear > 0.98  # not 1: pixels are rounded
    for vector in found.vectors[:3]:  # to the right is brighter
        assert (vector @ directions.T @ patterns).sum() > 0


def test_even_functions_of_the_latent_add_no_noise() -> None:
    directions, patterns = linear_generator([20.0])

    def generate(latents: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
        even = 30 * np.abs(latents[:, :1])  # far stronger than the linear part
        pixels = 80 + even + latents @ directions.T @ patterns
        yield np.clip(np.round(pixels), 0, 255).astype(np.uint8).reshape(-1, 4, 4, 1)

    found = strongest_directions(generate, DIM)
    assert abs(found.vectors[0] @ directions[0]) > 0.98


def test_noise_lowers_the_linear_share() -> None:
    generator = np.random.default_rng(0)
    found = strongest_directions(
        lambda latents: [generator.integers(0, 256, (len(latents), 4, 4, 1), dtype=np.uint8)], DIM
    )
    assert found.linear < 0.05


def test_progress_increases_to_1() -> None:
    directions, patterns = linear_generator([20.0])
    steps: list[float] = []
    strongest_directions(
        lambda latents: [(128 + latents @ directions.T @ patterns).astype(np.uint8).reshape(-1, 4, 4, 1)],
        DIM,
        progress=steps.append,
    )
    assert steps == sorted(steps)
    assert steps[-1] == 1.0


def test_a_generator_that_ignores_its_latent_has_no_directions() -> None:
    with pytest.raises(InvalidRequest, match="do not depend on the latent"):
        strongest_directions(lambda latents: [np.full((len(latents), 4, 4, 1), 7, np.uint8)], DIM)


def test_a_latent_too_large_for_the_regression_is_refused_before_any_request() -> None:
    with pytest.raises(InvalidRequest, match="1025 are too large; the limit is 1024"):
        strongest_directions(lambda latents: [], MAX_LATENT_DIM + 1)


@pytest.mark.parametrize("dim", [1, 64, 100, 512, MAX_LATENT_DIM])
def test_there_are_at_least_twice_as_many_pairs_as_dimensions(dim: int) -> None:
    assert pairs_for(dim) >= 2 * dim


@pytest.mark.parametrize(("height", "width"), [(64, 64), (16, 16), (7, 5), (33, 100)])
def test_averaged_images_keep_the_mean(height: int, width: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    made = small(images).reshape(2, min(height, 16), min(width, 16), 3)
    if height % 16 == width % 16 == 0:
        np.testing.assert_allclose(made.mean(axis=(1, 2)), images.mean(axis=(1, 2)), rtol=1e-5)
    flat = small(np.full((1, height, width, 3), 99, np.uint8))
    np.testing.assert_allclose(flat, 99, rtol=1e-6)
