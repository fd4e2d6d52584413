from __future__ import annotations

import math

import pytest
import torch

from ganserve.metrics import STANDARD_ERROR
from trainer.metrics import standard_errors
from trainer.metrics.standard_errors import FEWEST_IMAGES, error_of_mean, half_sample_errors, recorded, used_share


def values(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("most_images", [100, 10**6])
def test_the_error_of_a_mean_is_found_from_halves(most_images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_errors, "MOST_IMAGES", most_images)
    monkeypatch.setattr(standard_errors, "HALVES", 400)
    reals, fakes = values(400, 0), 2 * values(200, 1)

    def means(real: torch.Tensor, fake: torch.Tensor) -> list[float]:
        return [float(reals[real].mean()), float(reals[real].mean() - fakes[fake].mean())]

    one, difference = half_sample_errors(means, len(reals), len(fakes), seed=3)
    assert one == pytest.approx(1 / math.sqrt(400), rel=0.25)
    assert difference == pytest.approx(math.sqrt(1 / 400 + 4 / 200), rel=0.25)


def test_the_halves_depend_on_the_seed_alone() -> None:
    def first(real: torch.Tensor, fake: torch.Tensor) -> list[float]:
        assert len(set(real.tolist())) == 20
        return [float(real[0] + fake[0])]

    same, again, other = (half_sample_errors(first, 40, 40, seed) for seed in (1, 1, 2))
    assert same == again
    assert same != other


def test_few_images_have_no_error() -> None:
    assert half_sample_errors(lambda *_: [0.0], FEWEST_IMAGES - 1, 100, 0) == []
    assert recorded(["recall"], []) == {}


def test_only_known_errors_are_recorded() -> None:
    assert recorded(["recall", "precision"], [0.5, math.nan]) == {f"recall{STANDARD_ERROR}": 0.5}


def test_the_error_of_a_mean_of_independent_values() -> None:
    assert error_of_mean(torch.tensor([1.0, 3.0])) == pytest.approx(1.0)
    assert math.isnan(error_of_mean(torch.tensor([1.0])))


def test_large_sets_are_used_in_part() -> None:
    assert used_share(10) == 1
    assert used_share(4 * standard_errors.MOST_IMAGES) == 0.25
