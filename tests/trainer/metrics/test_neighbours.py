from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from trainer.metrics import neighbours
from trainer.metrics.neighbours import density_coverage, precision_recall


def cloud(count: int, seed: int, dim: int = 3, centre: float = 0.0) -> torch.Tensor:
    return centre + torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_two_distant_sets_score_0() -> None:
    reals, fakes = cloud(40, 0), cloud(40, 1, centre=1000)
    assert precision_recall(reals, fakes) == (0, 0)
    assert density_coverage(reals, fakes) == (0, 0)


def test_copies_of_the_reals_score_1() -> None:
    reals = cloud(40, 0)
    assert precision_recall(reals, reals) == (1, 1)
    density, coverage = density_coverage(reals, reals, k=5)
    assert coverage == 1
    assert density == pytest.approx(1)  # each ball holds its centre and four others


def test_one_repeated_real_image_has_precision_1_and_little_coverage() -> None:
    reals = torch.cat([cloud(50, 0), cloud(50, 1, centre=1000)])
    fakes = reals[:1].expand(100, -1) + 1e-4 * cloud(100, 2)
    precision, recall = precision_recall(reals, fakes)
    assert precision == 1
    assert recall <= 0.01
    density, coverage = density_coverage(reals, fakes)
    assert density > 0.5
    assert coverage < 0.25


def test_half_of_the_data_has_half_the_recall_and_coverage() -> None:
    reals = torch.cat([cloud(50, 0), cloud(50, 1, centre=1000)])
    precision, recall = precision_recall(reals, reals[:50])
    assert (precision, recall) == (1, 0.5)
    assert density_coverage(reals, reals[:50])[1] == 0.5


def test_points_on_a_line_have_the_expected_balls() -> None:
    reals = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # balls for k=1: 1, 1, 2, 4
    fakes = torch.tensor([[-0.5], [5.5], [20.0]])  # balls for k=1: 6, 6, 14.5
    # -0.5 is in the ball of 0, 5.5 in that of 7, 20 in no ball. Reals: all within 6 of -0.5 or 5.5.
    assert precision_recall(reals, fakes, k=1) == pytest.approx((2 / 3, 1))
    # The balls with a fake are those of 0 and 7; two fakes are in a ball.
    assert density_coverage(reals, fakes, k=1) == pytest.approx((2 / 3, 0.5))


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_it_equals_a_computation_with_scikit_learn(seed: int, k: int) -> None:
    reals, fakes = cloud(30, seed), cloud(20, seed + 1, centre=0.7)
    radii = NearestNeighbors(n_neighbors=k + 1).fit(reals.numpy()).kneighbors(reals.numpy())[0][:, -1]
    distances = np.linalg.norm(fakes.numpy()[:, None] - reals.numpy()[None], axis=-1)
    within = distances < radii
    assert precision_recall(reals, fakes, k)[0] == pytest.approx(within.any(1).mean())
    assert density_coverage(reals, fakes, k) == pytest.approx((within.sum() / (k * 20), within.any(0).mean()))


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    reals, fakes = cloud(31, 0), cloud(29, 1)
    whole = precision_recall(reals, fakes), density_coverage(reals, fakes)
    monkeypatch.setattr(neighbours, "_DISTANCES", 100)
    assert (precision_recall(reals, fakes), density_coverage(reals, fakes)) == whole


@pytest.mark.parametrize("measure", [precision_recall, density_coverage])
def test_too_few_images_are_refused(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match="neighbours"):
        measure(cloud(3, 0), cloud(3, 1), 3)
