from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainer.models.residual_block import ResidualBlock, scale_weights


def test_a_new_block_is_the_identity_and_one_step_changes_it() -> None:
    block = ResidualBlock(4, blocks=3)
    maps = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(maps), maps)
    block(maps).square().mean().backward()
    with torch.no_grad():
        for parameter in block.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad)
    assert not torch.equal(block(maps), maps)


def test_more_blocks_begin_with_smaller_weights() -> None:
    one, sixteen = (ResidualBlock(64, blocks).mix.weight.std().item() for blocks in (1, 16))
    assert one / sixteen == pytest.approx(16 ** (1 / 4), rel=0.05)


@pytest.mark.parametrize("layer", [nn.Linear(400, 300), nn.Conv2d(400, 300, 1), nn.ConvTranspose2d(400, 300, 4)])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_scaled_weights_keep_the_standard_deviation_times_the_gain(layer: nn.Module, gain: float) -> None:
    scale_weights(layer, gain)
    inputs = torch.randn(64, 400) if isinstance(layer, nn.Linear) else torch.randn(64, 400, 1, 1)
    outputs = layer(inputs).detach()
    assert outputs.std().item() == pytest.approx(gain, rel=0.05)
    assert math.isclose(outputs.mean().item(), 0, abs_tol=0.05)


def test_a_layer_without_weights_is_refused() -> None:
    with pytest.raises(TypeError, match="ReLU"):
        scale_weights(nn.ReLU())
