"""The layers that several processes share, in one process. `distributed/` tries them in two."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from tests.trainer.conftest import GAN_PRESETS, small_gan
from trainer.models import across_processes as layers
from trainer.models import build_discriminator, build_generator
from trainer.models.across_processes import SharedBatchNorm, SharedDropout, SharedMinibatchStd, across_processes
from trainer.models.progressive_layers import MinibatchStd


@pytest.fixture
def two_pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `across_processes` think that there are two, though nothing is exchanged."""
    monkeypatch.setattr(layers, "world_size", lambda: 2)


@pytest.mark.parametrize(("model", "preset"), GAN_PRESETS)
def test_a_shared_network_has_the_same_parameters_and_leaves_no_layer_out(
    model: str, preset: str, two_pretended: None
) -> None:
    config = small_gan(model, preset).network
    for build in (build_generator, build_discriminator):
        network = build(config)
        before = network.state_dict(keep_vars=True)
        shared = across_processes(network)
        after = shared.state_dict(keep_vars=True)
        assert list(after) == list(before)
        assert all(after[name] is before[name] for name in before)
        batchwise = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, MinibatchStd)
        for module in shared.modules():
            assert not isinstance(module, batchwise) or isinstance(module, SharedBatchNorm | SharedMinibatchStd)
        assert copy.deepcopy(shared).load_state_dict(before).missing_keys == []


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 5)])
@pytest.mark.parametrize("eps", [1e-5, 0.8])
def test_shared_batch_norm_of_one_process_is_batch_norm(
    shape: tuple[int, ...], eps: float, two_pretended: None
) -> None:
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    plain = kind(3, eps).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    shared = across_processes(nn.Sequential(copy.deepcopy(plain)))[0]  # type: ignore[index]
    for _ in range(3):
        features = torch.randn(shape, dtype=torch.float64) * 3 + 100
        torch.testing.assert_close(shared(features), plain(features))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value)
    for network in (shared, plain):
        network.eval()
    torch.testing.assert_close(shared(features), plain(features))


def test_the_gradient_of_shared_batch_norm_and_its_gradient_are_right() -> None:
    layer = SharedBatchNorm(2).double()
    features = torch.randn(3, 2, 2, 1, dtype=torch.float64, requires_grad=True)

    def normalised(values: Tensor) -> Tensor:
        output: Tensor = layer(values)
        return output

    assert gradcheck(normalised, features)
    assert gradgradcheck(normalised, features)


def test_shared_batch_norm_in_bf16_keeps_its_statistics_exact() -> None:
    layer = SharedBatchNorm(1)
    features = torch.full((64, 1), 256.0)
    features[0] = 258
    output = layer(features.bfloat16())
    assert output.dtype == torch.bfloat16
    assert layer.running_mean == pytest.approx(0.1 * (256 + 2 / 64))


@pytest.mark.parametrize("whole_maps", [False, True])
def test_shared_dropout_draws_what_dropout_draws(whole_maps: bool) -> None:
    features = torch.randn(5, 4, 3, 3)
    torch.manual_seed(1)
    expected = (nn.Dropout2d if whole_maps else nn.Dropout)(0.3)(features)
    torch.manual_seed(1)
    layer = SharedDropout(0.3, whole_maps=whole_maps)
    torch.testing.assert_close(layer(features), expected)
    assert layer.eval()(features) is features


@pytest.mark.parametrize("rows", [2, 4, 7, 8])
@pytest.mark.parametrize("group_rows", [4, None])
def test_shared_minibatch_statistics_of_one_process_are_the_plain_ones(rows: int, group_rows: int | None) -> None:
    features = torch.randn(rows, 3, 4, 4)
    assert torch.equal(SharedMinibatchStd(group_rows)(features), MinibatchStd(group_rows)(features))
