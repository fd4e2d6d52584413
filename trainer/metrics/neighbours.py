"""Coverage of two sets of features by each other's k-nearest-neighbour balls.

Precision and recall: Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models".
Density and coverage: Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models".
All four depend on the number of samples, so compare only equal numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

PRECISION_RECALL_NEIGHBOURS = 3  # as in the paper
DENSITY_COVERAGE_NEIGHBOURS = 5  # as in the paper

_DISTANCES = 1 << 24  # in memory at once


def precision_recall(reals: Tensor, fakes: Tensor, k: int = PRECISION_RECALL_NEIGHBOURS) -> tuple[float, float]:
    """The share of fakes within a ball of a real, and the share of reals within a ball of a fake; 0 to 1.

    Args:
        reals: features (N, D).
        fakes: features (M, D).
        k: a ball reaches to the k-th nearest neighbour in its own set, not counting itself.

    Raises:
        ValueError: a set has fewer than k + 1 features.
    """
    return _share_within(fakes, reals, _radii(reals, k)), _share_within(reals, fakes, _radii(fakes, k))


def density_coverage(reals: Tensor, fakes: Tensor, k: int = DENSITY_COVERAGE_NEIGHBOURS) -> tuple[float, float]:
    """The mean number of real balls around a fake, over k (may exceed 1), and the share of balls that contain a fake.

    For arguments and errors, see `precision_recall`.
    """
    radii = _radii(reals, k)
    hit = torch.zeros(len(reals), dtype=torch.bool, device=reals.device)
    balls = 0
    for distances in _distances(fakes, reals):
        within = distances < radii
        balls += int(within.sum())
        hit |= within.any(0)
    return balls / (k * len(fakes)), hit.double().mean().item()


def _share_within(probes: Tensor, centres: Tensor, radii: Tensor) -> float:
    found = sum(int((distances <= radii).any(1).sum()) for distances in _distances(probes, centres))
    return found / len(probes)


def _radii(features: Tensor, k: int) -> Tensor:
    """The distance of each feature to its k-th nearest neighbour among the others."""
    if len(features) <= k:
        raise ValueError(f"{len(features)} features are too few for {k} nearest neighbours")
    return torch.cat([distances.kthvalue(k + 1, dim=1).values for distances in _distances(features, features)])


def _distances(rows: Tensor, columns: Tensor) -> Iterator[Tensor]:
    """Yields distances (n, M) from chunks of the rows (N, D) to all columns (M, D)."""
    for chunk in torch.split(rows, max(1, _DISTANCES // max(1, len(columns)))):
        # Without a matrix product, whose rounding would separate equal features.
        yield torch.cdist(chunk, columns, compute_mode="donot_use_mm_for_euclid_dist")
