from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.claims.traversal import change_by_region, latent_effects


def test_a_linear_generator_changes_by_its_weights() -> None:
    weights = torch.rand(5, 6, 6, generator=torch.Generator().manual_seed(0)) / 10

    def generate(latents: Tensor) -> Tensor:
        return torch.einsum("nd,dhw->nhw", latents, weights).unsqueeze(1)

    effects = latent_effects(generate, torch.randn(4, 5, generator=torch.Generator().manual_seed(1)))
    # From -3 to +3 an image moves by 6 times the weight, of a range of 2.
    np.testing.assert_allclose(effects.change, 3 * weights.mean((1, 2)).numpy(), rtol=1e-4)
    np.testing.assert_allclose(effects.map, 3 * weights.mean(0).numpy(), rtol=1e-4)


def test_an_unused_coordinate_changes_nothing_and_latents_stay_unchanged() -> None:
    start = torch.ones(3, 2)
    effects = latent_effects(lambda latents: latents[:, :1, None, None].expand(-1, 1, 4, 4) / 3, start)
    np.testing.assert_allclose(effects.change, [1.0, 0.0])
    assert torch.equal(start, torch.ones(3, 2))


def test_a_uniform_change_is_equal_in_all_regions() -> None:
    assert change_by_region(np.full((30, 30), 0.2)) == pytest.approx({"top": 1.0, "centre": 1.0, "border": 1.0})
    assert change_by_region(np.zeros((6, 6))) == {"top": 1.0, "centre": 1.0, "border": 1.0}


@pytest.mark.parametrize(
    ("place", "rows", "columns", "others"),
    [
        ("top", slice(0, 10), slice(0, 30), {"centre": 0.0}),
        ("centre", slice(10, 20), slice(10, 20), {"top": 0.0, "border": 0.0}),
    ],
)
def test_a_change_in_one_region_is_found_there(
    place: str, rows: slice, columns: slice, others: dict[str, float]
) -> None:
    change = np.zeros((30, 30))
    change[rows, columns] = 1.0
    found = change_by_region(change)
    assert found[place] == pytest.approx(900 / change.sum())
    assert {name: found[name] for name in others} == others
