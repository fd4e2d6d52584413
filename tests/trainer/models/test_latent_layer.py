from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.models.latent_layer import LatentLayer, latent_maps, with_plain_layers


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("kernel", [1, 3, 4])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels-last"])
def test_a_latent_layer_equals_a_transposed_convolution_of_one_pixel(
    kernel: int, bias: bool, memory_format: torch.memory_format
) -> None:
    layer = LatentLayer(7, 5, kernel, bias=bias).double().to(memory_format=memory_format)
    reference = nn.ConvTranspose2d(7, 5, kernel, bias=bias).double()
    reference.load_state_dict(layer.state_dict())
    latents = torch.randn(3, 7, 1, 1, dtype=torch.float64)
    ours, theirs = latents.clone().requires_grad_(), latents.clone().requires_grad_()
    maps, expected = layer(ours), reference(theirs)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(maps, expected)
    weights = torch.randn_like(expected)
    (maps * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    for (name, parameter), (same_name, other) in zip(
        layer.named_parameters(), reference.named_parameters(), strict=True
    ):
        assert name == same_name
        torch.testing.assert_close(parameter.grad, other.grad)


def test_maps_are_bfloat16_under_autocast() -> None:
    layer = LatentLayer(7, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 7, 1, 1)).dtype == torch.bfloat16
        assert latent_maps(torch.randn(2, 7, 1, 1), layer.weight, None).dtype == torch.bfloat16


def test_a_network_with_plain_layers_makes_the_same_images() -> None:
    network = nn.Sequential(LatentLayer(7, 5, bias=False), nn.Sequential(nn.ReLU(), nn.Conv2d(5, 1, 4)))
    latents = torch.randn(2, 7, 1, 1)
    expected, names = network(latents), list(network.state_dict())
    exported = with_plain_layers(network)
    assert [type(layer) for layer in exported.modules() if not isinstance(layer, nn.Sequential)] == [
        nn.ConvTranspose2d,
        nn.ReLU,
        nn.Conv2d,
    ]
    assert list(exported.state_dict()) == names
    torch.testing.assert_close(exported(latents), expected)
