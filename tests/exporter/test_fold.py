from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exporter.fold import count_batch_norms, fold_batch_norms
from tests.exporter.gallery.translators import PerImageNorm
from tests.exporter.generators import randomise

MAPS = (3, 6, 5, 5)
FLAT = (3, 6)


def assert_same_output(folded: nn.Module, original: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = original(inputs)
        difference = (folded(inputs) - expected).abs().max()
    assert difference <= 3e-6 * expected.abs().max()  # float32 rounding, at the scale of the sums


@pytest.mark.parametrize(
    ("layer", "batch_norm", "shape"),
    [
        pytest.param(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), MAPS, id="conv"),
        pytest.param(nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4, eps=0.8), MAPS, id="conv-no-bias-eps-0.8"),
        pytest.param(nn.Conv2d(6, 4, 3, groups=2), nn.BatchNorm2d(4), MAPS, id="grouped-conv"),
        pytest.param(nn.ConvTranspose2d(6, 4, 4, 2, 1), nn.BatchNorm2d(4), MAPS, id="transposed"),
        pytest.param(
            nn.ConvTranspose2d(6, 9, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(9, 0.8), MAPS, id="transposed-up"
        ),
        pytest.param(nn.Conv1d(6, 4, 3), nn.BatchNorm1d(4), (3, 6, 5), id="conv1d"),
        pytest.param(nn.Linear(6, 4), nn.BatchNorm1d(4, 0.8), FLAT, id="linear-eps-0.8"),
        pytest.param(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4, affine=False), FLAT, id="linear-not-affine"),
    ],
)
def test_batch_norm_is_folded_into_the_layer_before_it(
    layer: nn.Module, batch_norm: nn.Module, shape: tuple[int, ...]
) -> None:
    original = randomise(nn.Sequential(layer, batch_norm, nn.LeakyReLU(0.2)))
    folded = fold_batch_norms(original)
    assert count_batch_norms(folded) == 0
    assert_same_output(folded, original, shape)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        pytest.param([nn.ConvTranspose2d(6, 4, 3, groups=2), nn.BatchNorm2d(4)], MAPS, id="grouped-transposed"),
        pytest.param([nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3)], MAPS, id="batch-norm-first"),
        pytest.param([nn.Conv2d(6, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)], MAPS, id="after-activation"),
        pytest.param([nn.Linear(6, 4), nn.Unflatten(1, (4, 1)), nn.BatchNorm1d(4)], FLAT, id="after-reshape"),
        pytest.param([nn.Conv2d(6, 4, 3), PerImageNorm(4)], MAPS, id="norm-with-its-own-forward"),
    ],
)
def test_batch_norm_that_cannot_be_folded_is_kept(layers: list[nn.Module], shape: tuple[int, ...]) -> None:
    original = randomise(nn.Sequential(*layers))
    folded = fold_batch_norms(original)
    assert count_batch_norms(folded) == 1
    assert_same_output(folded, original, shape)


def test_batch_norm_without_running_statistics_is_kept() -> None:
    original = nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    assert count_batch_norms(fold_batch_norms(original)) == 1


def test_nested_sequentials_are_folded() -> None:
    block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
    original = randomise(nn.Sequential(block, nn.Sequential(nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4)))))
    folded = fold_batch_norms(original)
    assert count_batch_norms(folded) == 0
    assert_same_output(folded, original, MAPS)


def test_layer_used_with_two_batch_norms_is_folded_once_with_each() -> None:
    shared = nn.Conv2d(6, 6, 3, padding=1)
    original = randomise(nn.Sequential(shared, nn.BatchNorm2d(6), nn.ReLU(), shared, nn.BatchNorm2d(6), shared))
    folded = fold_batch_norms(original)
    assert count_batch_norms(folded) == 0
    assert_same_output(folded, original, MAPS)


def test_hooked_spectral_norm_becomes_a_plain_weight() -> None:
    layer = nn.utils.spectral_norm(nn.Conv2d(6, 4, 3))
    with torch.no_grad():
        for _ in range(10):  # the norm is a running estimate
            layer(torch.ones(MAPS))
    original = randomise(nn.Sequential(layer, nn.BatchNorm2d(4)))
    folded = fold_batch_norms(original)
    assert count_batch_norms(folded) == 0
    assert not folded[0]._forward_pre_hooks  # type: ignore[index]
    assert_same_output(folded, original, MAPS)


@pytest.mark.parametrize(
    "parametrized",
    [
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 4, 3)),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 4, 3)),
        nn.utils.parametrizations.orthogonal(nn.Linear(5, 5)),
    ],
    ids=["spectral", "weight", "orthogonal"],
)
def test_a_parametrized_weight_becomes_a_plain_one_in_the_copy_alone(parametrized: nn.Module) -> None:
    norm: list[nn.Module] = [nn.BatchNorm2d(4)] if isinstance(parametrized, nn.Conv2d) else []
    original = randomise(nn.Sequential(parametrized, *norm))
    state = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    folded = fold_batch_norms(original)
    assert count_batch_norms(folded) == 0
    assert type(folded[0]) in {nn.Conv2d, nn.Linear}  # type: ignore[index]
    assert {name.rpartition(".")[2] for name in folded.state_dict()} == {"weight", "bias"}
    assert_same_output(folded, original, MAPS)
    assert original.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in original.state_dict().items())


def test_sequential_with_its_own_forward_is_kept() -> None:
    class Backwards(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for layer in reversed(self):
                x = layer(x)
            return x

    original = randomise(Backwards(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6)))
    folded = fold_batch_norms(original)
    assert count_batch_norms(folded) == 1
    assert_same_output(folded, original, MAPS)


def test_original_is_not_changed() -> None:
    original = randomise(nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4)))
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    fold_batch_norms(original)
    assert count_batch_norms(original) == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.state_dict().items())
