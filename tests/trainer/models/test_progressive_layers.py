from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainer.models.progressive_layers import EqualisedConv2d, EqualisedLatentLayer, MinibatchStd, PixelNorm

# The sizes of the groups that a batch makes.
GROUPS = {1: [1], 2: [2], 3: [3], 4: [4], 5: [5], 6: [6], 7: [7], 8: [4, 4], 9: [5, 4], 11: [6, 5], 14: [5, 5, 4]}


@pytest.mark.parametrize("rows", GROUPS)
def test_the_minibatch_statistic_is_computed_per_group(rows: int) -> None:
    features = torch.randn(rows, 3, 2, 2, dtype=torch.float64)
    outputs = MinibatchStd()(features).numpy()
    np.testing.assert_array_equal(outputs[:, :3], features.numpy())
    assert sum(GROUPS[rows]) == rows
    start = 0
    for size in GROUPS[rows]:
        group = features.numpy()[start : start + size]
        expected = np.sqrt(group.var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(outputs[start : start + size, 3], np.full((size, 2, 2), expected), rtol=1e-12)
        start += size


@pytest.mark.parametrize("rows", [1, 5, 8])
def test_without_a_group_size_the_batch_is_one_group(rows: int) -> None:
    features = torch.randn(rows, 3, 2, 2, dtype=torch.float64)
    expected = np.sqrt(features.numpy().var(axis=0) + 1e-8).mean()
    outputs = MinibatchStd(group_rows=None)(features)
    np.testing.assert_allclose(outputs[:, 3].numpy(), np.full((rows, 2, 2), expected), rtol=1e-12)


def test_the_minibatch_statistic_of_known_numbers() -> None:
    # One map of one pixel: 0, 0, 2, 2 has mean 1 and variance 1; equal rows vary by the root of 1e-8 only.
    features = torch.tensor([0.0, 0.0, 2.0, 2.0, 5.0, 5.0, 5.0, 5.0]).view(8, 1, 1, 1)
    statistic = MinibatchStd()(features)[:, 1, 0, 0]
    torch.testing.assert_close(statistic, torch.tensor([1.0] * 4 + [1e-4] * 4))


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_the_minibatch_statistic_can_be_differentiated_twice(rows: int) -> None:
    features = torch.randn(rows, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    if rows == 1:  # a lone row varies by nothing: the gradient is 0, not NaN
        MinibatchStd()(features)[:, 2].sum().backward()
        assert features.grad is not None
        assert not features.grad.any()
    else:
        assert torch.autograd.gradgradcheck(MinibatchStd(), (features,))


@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 2, 2)])
def test_pixel_norm_gives_each_pixel_a_mean_square_of_1(shape: tuple[int, ...]) -> None:
    features = 10 * torch.randn(shape)
    outputs = PixelNorm()(features)
    torch.testing.assert_close(outputs.square().mean(dim=1), torch.ones(shape[:1] + shape[2:]))
    torch.testing.assert_close(outputs * features.square().mean(dim=1, keepdim=True).sqrt(), features)
    assert not PixelNorm()(torch.zeros(shape)).any()


@pytest.mark.parametrize("layer", [EqualisedConv2d(5, 3, 3, padding=1), EqualisedLatentLayer(5, 3)])
def test_a_plain_layer_computes_the_same(layer: EqualisedConv2d | EqualisedLatentLayer) -> None:
    torch.nn.init.normal_(layer.bias)
    features = torch.randn(2, 5, 1, 1)
    torch.testing.assert_close(layer.plain()(features), layer(features))


def test_the_latent_layer_is_the_papers_4x4_convolution_of_a_padded_pixel() -> None:
    layer = EqualisedLatentLayer(6, 3)
    convolution = EqualisedConv2d(6, 3, 4, padding=3)
    with torch.no_grad():
        convolution.weight.copy_(layer.weight.transpose(0, 1).flip(2, 3))
    assert layer.scale == pytest.approx(math.sqrt(2) / 4 / math.sqrt(6))
    latents = torch.randn(2, 6, 1, 1)
    torch.testing.assert_close(layer(latents), convolution(latents))
