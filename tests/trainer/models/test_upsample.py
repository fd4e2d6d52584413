from __future__ import annotations

from torch import nn

from trainer.models import NetworkConfig, build_discriminator, build_generator


def test_the_generator_enlarges_by_repeating_pixels_and_has_the_published_eps() -> None:
    config = NetworkConfig(architecture="dcgan-upsample", image_size=16, width=0.1)
    generator, discriminator = build_generator(config), build_discriminator(config)
    assert not any(isinstance(layer, nn.ConvTranspose2d) for layer in generator.modules())
    assert [layer.mode for layer in generator.modules() if isinstance(layer, nn.Upsample)] == ["nearest"] * 2
    eps = [layer.eps for layer in generator.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert eps == [1e-5, 0.8, 0.8]
    assert {layer.eps for layer in discriminator.modules() if isinstance(layer, nn.BatchNorm2d)} == {0.8}
