from __future__ import annotations

import torch
from torch import nn

from trainer.models import NetworkConfig, build_discriminator, build_generator
from trainer.models.residual_block import ResidualBlock

CONFIG = NetworkConfig(architecture="residual", image_size=32, channels=3, width=1 / 8)


def test_there_is_a_block_at_every_resolution_and_no_norm() -> None:
    for network in (build_generator(CONFIG), build_discriminator(CONFIG)):
        assert sum(isinstance(module, ResidualBlock) for module in network.modules()) == 4  # 4x4 to 32x32
        norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
        assert not any(isinstance(module, norms) for module in network.modules())


def test_new_networks_begin_with_about_unit_variance() -> None:
    torch.manual_seed(0)
    generator, discriminator = build_generator(CONFIG), build_discriminator(CONFIG)
    images = generator(torch.randn(256, CONFIG.latent_dim)).detach()
    assert 0.4 < images.std().item() < 1.5
    assert 0.1 < discriminator(torch.randn(256, 3, 32, 32)).detach().std().item() < 2


def test_images_are_scored_independently_of_each_other() -> None:
    discriminator = build_discriminator(CONFIG)
    images = torch.randn(4, 3, 32, 32)
    alone = torch.cat([discriminator(image[None]) for image in images])
    torch.testing.assert_close(discriminator(images), alone)
