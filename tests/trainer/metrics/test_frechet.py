from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg  # type: ignore[import-untyped]

from trainer.metrics.frechet import frechet_distance, gaussian_distance, total_variance
from trainer.metrics.inception import inception_distance


def features(count: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator) @ torch.randn(dim, dim, generator=generator)


def test_independent_gaussians_match_the_closed_form() -> None:
    mean_1, mean_2 = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([3.0, 1.0, 0.0]).double()
    variances_1, variances_2 = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([4.0, 4.0, 0.0]).double()
    expected = (mean_1 - mean_2).square().sum() + (variances_1.sqrt() - variances_2.sqrt()).square().sum()
    found = gaussian_distance(mean_1, variances_1.diag(), mean_2, variances_2.diag())
    assert found == pytest.approx(expected.item())


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_it_equals_a_computation_with_scipys_matrix_root(seed: int, dim: int) -> None:
    one, other = features(50, dim, seed).double().numpy(), features(40, dim, seed + 1).double().numpy()
    covariances = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, other)]
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    difference = one.mean(0) - other.mean(0)
    expected = difference @ difference + np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert frechet_distance(torch.from_numpy(one), torch.from_numpy(other)) == pytest.approx(
        expected, rel=1e-6, abs=1e-6
    )


def test_it_equals_torchmetrics() -> None:
    one, other = features(200, 12, 0), features(150, 12, 1) + 1
    assert frechet_distance(one, other) == pytest.approx(inception_distance(one, other), rel=1e-4)


def test_equal_sets_have_distance_0_even_if_small() -> None:
    one = features(5, 20, 3)  # a singular covariance
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(one, one + 2) == pytest.approx(20 * 4, rel=1e-6)


def test_the_distance_is_symmetric() -> None:
    one, other = features(30, 6, 0), features(40, 6, 1)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))


@pytest.mark.parametrize("shapes", [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5,), (5,))])
def test_sets_without_a_distance_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="at least two features"):
        frechet_distance(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_the_total_variance_is_the_distance_to_copies_of_the_mean() -> None:
    images = features(300, 6, 0)
    assert total_variance(images) == pytest.approx(frechet_distance(images, images.mean(0).expand(9, -1)), rel=1e-5)
