"""The networks: a registry of architectures, each a generator and its discriminator or critic.

A generator maps latents (N, latent_dim) to images (N, channels, H, W); a
discriminator maps such images to logits (N,), without a sigmoid. Image-to-image networks, in cyclegan.py, take images
and so are not in the registry.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from trainer.errors import UserError
from trainer.models import dcgan, mlp, progressive, upsample
from trainer.models.architecture import (
    Architecture,
    MakesSize,
    NetworkConfig,
    SizedConfig,
    check_size,
    flag_size,
    shown_size,
)
from trainer.models.cyclegan import (
    TranslatorConfig,
    build_patch_discriminator,
    build_translator,
    check_translator,
    translates_size,
)
from trainer.registry import Registry

ARCHITECTURES: Registry[Architecture] = Registry("architecture")
for _architecture in (
    *mlp.ARCHITECTURES,
    *dcgan.ARCHITECTURES,
    *upsample.ARCHITECTURES,
    *progressive.ARCHITECTURES,
):
    ARCHITECTURES.add(_architecture.name, _architecture)

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "NetworkConfig",
    "SizedConfig",
    "TranslatorConfig",
    "build_discriminator",
    "build_generator",
    "build_patch_discriminator",
    "build_translator",
    "check_network",
    "check_translator",
    "flag_size",
    "makes_size",
    "shown_size",
]


def makes_size(config: SizedConfig) -> MakesSize:
    """Which sizes the networks of a config can have."""
    return ARCHITECTURES[config.architecture].makes_size if isinstance(config, NetworkConfig) else translates_size


def check_network(config: NetworkConfig) -> None:
    """Raises UserError if there is no such architecture, or it cannot make images of this size."""
    architecture = ARCHITECTURES[config.architecture]
    makes = f"makes images with {architecture.sizes_text}"
    check_size(config.size, architecture.makes_size, architecture.name, makes, ", or another --preset")
    if config.spectral_norm and architecture.grows:
        raise UserError(f"--spectral-norm: does not go with {architecture.name}, which scales its weights itself")


def build_generator(config: NetworkConfig) -> nn.Module:
    """Builds the generator: latents (N, latent_dim) -> images (N, channels, H, W)."""
    check_network(config)
    return ARCHITECTURES[config.architecture].generator(config)


def build_discriminator(config: NetworkConfig) -> nn.Module:
    """Builds the discriminator or critic: images (N, channels, H, W) -> logits (N,).

    With `spectral_norm`, the weights of every layer are divided by their largest singular value, estimated by one power
    iteration per forward pass (Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks").
    """
    check_network(config)
    network = ARCHITECTURES[config.architecture].discriminator(config)
    if config.spectral_norm:
        for module in list(network.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear):
                spectral_norm(module)
    return network
