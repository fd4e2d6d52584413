"""Frechet distance between two sets of features, each modelled as a Gaussian.

Dowson & Landau 1982, "The Fréchet distance between multivariate normal distributions"; Heusel et al. 2017, "GANs
Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", section 3, in features of a network.
It decreases with the number of samples, so compare only equal numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(reals: Tensor, fakes: Tensor) -> float:
    """The (squared) distance of features (N, D) and (M, D); smaller is better, 0 for equal moments.

    Computed in float64, with unbiased covariances (N - 1).

    Raises:
        ValueError: D differs, or a set has fewer than two features.
    """
    if reals.ndim != 2 or fakes.ndim != 2 or reals.shape[1] != fakes.shape[1] or min(len(reals), len(fakes)) < 2:
        raise ValueError(f"expected at least two features (N, D) each, got {tuple(reals.shape)}, {tuple(fakes.shape)}")
    return gaussian_distance(*_moments(reals.double()), *_moments(fakes.double()))


def total_variance(features: Tensor) -> float:
    """The sum of the variances of features (N, D): their Frechet distance to copies of their own mean."""
    return float(features.double().var(0).sum())


def gaussian_distance(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), of means (D,) and covariances (D, D), float64."""
    # tr (C1 C2)^1/2 is the sum of the singular values of C1^1/2 C2^1/2: this needs roots of symmetric matrices only,
    # and is stable for singular ones.
    root_1, root_2 = _root(covariance_1), _root(covariance_2)
    cross = torch.linalg.svdvals(root_1 @ root_2).sum()
    distance = (mean_1 - mean_2).square().sum() + covariance_1.trace() + covariance_2.trace() - 2 * cross
    return max(0.0, float(distance))  # rounding may make it slightly negative


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], -1)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
