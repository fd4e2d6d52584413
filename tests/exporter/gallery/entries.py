"""The gallery: networks in the style of public repositories, the flags that export each, and what it computes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ganserve.bundle import ImageInput, LatentInput, RowInput
from tests.exporter.gallery import convolutions, perceptrons, styles, translators

_WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)

Eager = Callable[[Any, Tensor], Tensor]  # the network and its input -> images (N, C, H, W)


def _plain(network: nn.Module, inputs: Tensor) -> Tensor:
    images: Tensor = network(inputs)
    return images


def _label(network: nn.Module, latents: Tensor) -> Tensor:
    images: Tensor = network(latents, torch.full((len(latents),), 3))
    return images


@dataclass(frozen=True)
class Entry:
    """One network of the gallery.

    Args:
        style: The public code whose style it follows.
        network: Its class, made without arguments.
        flags: Of the exporter, beside --module, --weights and --name, as a user writes them.
        eager: What its author calls to get images; written without the exporter.
        suffix: Of the file of weights.
        prefix: Of the keys in that file.
    """

    style: str
    network: type[nn.Module]
    flags: tuple[str, ...]
    eager: Eager = _plain
    suffix: str = ".pth"
    prefix: str = ""

    @property
    def row_input(self) -> RowInput:
        """Its input, by its flags."""
        if "--latent-dim" in self.flags:
            return LatentInput(latent_dim=int(self._values("--latent-dim", 1)[0]))
        channels, height, width = map(int, self._values("--input-image", 3))
        return ImageInput(channels=channels, height=height, width=width)

    @property
    def value_range(self) -> tuple[float, float]:
        """The image values of pixels 0 and 255."""
        if "--value-range" not in self.flags:
            return -1.0, 1.0
        low, high = map(float, self._values("--value-range", 2))
        return low, high

    @property
    def spec(self) -> str:
        """What --module names."""
        return f"{self.network.__module__}:{self.network.__qualname__}"

    def build(self) -> nn.Module:
        """The network with weights like those after training: no zeros, and statistics that fit."""
        torch.manual_seed(7)
        network = self.network()
        for layer in network.modules():
            if isinstance(layer, _WEIGHTED):
                nn.init.kaiming_normal_(layer.weight)
        with torch.no_grad():
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.3)
        inputs = self.draw(32)
        network.train()
        with torch.no_grad():
            for _ in range(20):  # BatchNorm's statistics, and the power iterations of spectral norm
                self.eager(network, inputs)
        return network.eval()

    def draw(self, rows: int) -> Tensor:
        """Random input: latents, or images in the value range."""
        if isinstance(self.row_input, LatentInput):
            return torch.randn(rows, self.row_input.latent_dim)
        shape = (self.row_input.channels, self.row_input.height, self.row_input.width)
        return torch.empty(rows, *shape).uniform_(*self.value_range)

    def save(self, network: nn.Module, folder: Path) -> Path:
        """Writes the weights as a training script does."""
        path = folder / f"weights{self.suffix}"
        state = {self.prefix + key: value for key, value in network.state_dict().items()}
        if self.suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save(state, path)
        return path

    def _values(self, flag: str, count: int) -> tuple[str, ...]:
        start = self.flags.index(flag) + 1
        return self.flags[start : start + count]


def _latents(*more: str) -> tuple[str, ...]:
    return ("--latent-dim", "20", *more)


def _images(*more: str) -> tuple[str, ...]:
    return ("--input-image", "3", "16", "24", *more)


def _kwargs(**values: Any) -> tuple[str, str]:
    return "--forward-kwargs", json.dumps(values)


_ONE_HOT: Final = [[0.0, 0.0, 0.0, 1.0] + [0.0] * 6]
_DOMAIN: Final = [[0.0, 1.0, 0.0]]

GALLERY: Final[Mapping[str, Entry]] = {
    "gan": Entry("PyTorch-GAN gan, wgan", perceptrons.PerceptronGenerator, _latents()),
    "flat-gan": Entry(
        "MNIST GAN notebooks",
        perceptrons.FlatGenerator,
        _latents("--output-image", "1", "28", "28"),
        lambda network, z: network(z).view(-1, 1, 28, 28),
    ),
    "cgan": Entry("PyTorch-GAN cgan", perceptrons.LabelledPerceptron, _latents(*_kwargs(labels=[3])), _label),
    "acgan": Entry(
        "PyTorch-GAN acgan", convolutions.AuxiliaryClassifierGenerator, _latents(*_kwargs(labels=[3])), _label
    ),
    "infogan": Entry(
        "PyTorch-GAN infogan",
        convolutions.InformationGenerator,
        _latents(*_kwargs(labels=_ONE_HOT, code=[[0.5, -1.0]])),
        lambda network, z: network(
            z, torch.tensor(_ONE_HOT).expand(len(z), -1), torch.tensor([[0.5, -1.0]]).expand(len(z), -1)
        ),
    ),
    "dcgan": Entry("PyTorch-GAN dcgan", convolutions.UpsamplingGenerator, _latents(), suffix=".safetensors"),
    "tutorial-dcgan": Entry(
        "PyTorch's DCGAN tutorial",
        convolutions.TransposedGenerator,
        _latents(),
        lambda network, z: network(z[:, :, None, None]),
        prefix="module.",
    ),
    "sngan": Entry("SNGAN, mimicry", convolutions.ResidualGenerator, _latents()),
    "wgan-gp": Entry(
        "WGAN-GP's ResNet",
        convolutions.FlatResidualGenerator,
        _latents("--output-image", "3", "32", "32"),
        lambda network, z: network(z).view(-1, 3, 32, 32),
    ),
    "sagan": Entry(
        "SAGAN",
        convolutions.AttentionGenerator,
        _latents("--output-item", "0"),
        lambda network, z: network(z)[0],
    ),
    "fastgan": Entry(
        "FastGAN, without its noise (a subclass)",
        convolutions.QuietLightweightGenerator,
        _latents("--output-item", "0"),
        lambda network, z: network(z)[0],
    ),
    "began": Entry("BEGAN", convolutions.BoundaryEquilibriumDecoder, _latents()),
    "vae": Entry(
        "PyTorch-VAE's decoder (a subclass)",
        perceptrons.Decoder,
        ("--latent-dim", "10", "--value-range", "0", "1"),
        lambda network, z: network.decode(z),
    ),
    "progan": Entry(
        "ProGAN, `forward(z, step, alpha)`",
        styles.ProgressiveGenerator,
        _latents(*_kwargs(step=3, alpha=0.75)),
        lambda network, z: network(z, 3, 0.75),
    ),
    "stylegan": Entry(
        "StyleGAN",
        styles.AdaptiveNormGenerator,
        _latents(*_kwargs(psi=0.7), "--output-item", "image"),
        lambda network, z: network(z, psi=0.7)["image"],
    ),
    "stylegan2": Entry(
        "StyleGAN2",
        styles.StyleGenerator,
        ("--latent-dim", "16", *_kwargs(randomize_noise=False, fused_modconv=False), "--output-item", "0"),
        lambda network, z: network(z, randomize_noise=False, fused_modconv=False)[0],
    ),
    "biggan": Entry("BigGAN", styles.BigGenerator, _latents(*_kwargs(y=[3])), _label),
    "transgan": Entry(
        "TransGAN",
        styles.TransformerGenerator,
        _latents("--output-image", "3", "16", "16"),
        lambda network, z: network(z).permute(0, 3, 1, 2),
    ),
    "cyclegan": Entry("CycleGAN's resnet", translators.ResnetTranslator, _images()),
    "unet": Entry("pix2pix's unet in eval mode", translators.UnetTranslator, _images()),
    "pix2pix": Entry("pix2pix's unet as it samples (a subclass)", translators.PerImageUnet, _images()),
    "stargan": Entry(
        "StarGAN",
        translators.DomainTranslator,
        _images(*_kwargs(c=_DOMAIN)),
        lambda network, x: network(x, torch.tensor(_DOMAIN).expand(len(x), -1)),
    ),
    "ugatit": Entry(
        "U-GAT-IT",
        translators.AttentiveTranslator,
        _images("--output-item", "0"),
        lambda network, x: network(x)[0],
    ),
    "esrgan": Entry("SRGAN, ESRGAN", translators.SuperResolver, _images("--value-range", "0", "1")),
}
