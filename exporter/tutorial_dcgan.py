"""Reads the generator of the PyTorch DCGAN tutorial from its weights alone, without its class.

The tutorial (https://docs.pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html) and the DCGAN of pytorch/examples
save `netG.state_dict()` as netG_epoch_24.pth. `netG.main` is a Sequential of five 4x4 transposed convolutions without
bias, with batch norm and ReLU between them and tanh at the end. This is our architecture dcgan-k4 at 64x64, layer for
layer; the shapes of the weights give its sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from exporter.errors import InputError
from exporter.module import load_weights, read_state
from exporter.source import Source
from ganserve.bundle import LatentInput

_FLAG: Final = "--tutorial-netg"
_REMEDY: Final = "give the class of this network with --module and the file with --weights"
_CONVOLUTIONS: Final = (0, 3, 6, 9, 12)  # their indices in `main`
_WIDTHS: Final = (8, 4, 2, 1)  # channels between the convolutions, in units of ngf
_KERNEL: Final = (4, 4)
_SIZE: Final = 64  # pixels: 4x4, doubled by every convolution but the first
_KEY: Final = re.compile(r"main\.(\d+)\.weight")


def from_tutorial_netg(weights: Path) -> Source:
    """Builds the tutorial's generator; nz, ngf and nc come from the shapes of the weights.

    Args:
        weights: The state dict, a file of torch.save or safetensors; keys may have DataParallel's prefix "module.".

    Raises:
        InputError: The file does not hold this generator; the message says what differs.
    """
    state = read_state(weights, _FLAG)
    latent_dim, width, channels = _read_sizes(state, weights)
    generator = _Generator(latent_dim, width, channels)
    load_weights(generator, state, weights, _FLAG)
    return Source(
        network=generator.float().eval(),
        input=LatentInput(latent_dim=latent_dim),
        name="",
        kind="dcgan",
        architecture="dcgan-k4",
        dataset="",
        image_shape=(channels, _SIZE, _SIZE),
    )


class _Generator(nn.Module):
    """Latents (N, nz) -> images (N, nc, 64, 64) in [-1, 1]."""

    def __init__(self, latent_dim: int, width: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise(_widths(latent_dim, width, channels))):
            stride, padding = (1, 0) if index == 0 else (2, 1)
            layers.append(nn.ConvTranspose2d(inputs, outputs, _KERNEL, stride, padding, bias=False))
            if index < len(_WIDTHS):
                layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        self.flat = nn.Unflatten(1, (latent_dim, 1, 1))
        self.main = nn.Sequential(*layers, nn.Tanh())

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.main(self.flat(latents))
        return images


def _widths(latent_dim: int, width: int, channels: int) -> list[int]:
    return [latent_dim, *(factor * width for factor in _WIDTHS), channels]


def _read_sizes(state: Mapping[str, Tensor], path: Path) -> tuple[int, int, int]:
    """Returns (nz, ngf, nc) if the convolutions are the tutorial's."""
    shapes = {
        int(match[1]): tuple(tensor.shape)
        for key, tensor in state.items()
        if (match := _KEY.fullmatch(key.removeprefix("module."))) and tensor.ndim == 4
    }
    if tuple(sorted(shapes)) != _CONVOLUTIONS:
        raise InputError(
            f"{_FLAG} {path}: has {len(shapes)} convolutions main.N.weight, where the tutorial's generator has 5, at"
            f" N = 0, 3, 6, 9 and 12; {_REMEDY}"
        )
    latent_dim, width, channels = shapes[0][0], *shapes[12][:2]
    for index, inputs_outputs in zip(_CONVOLUTIONS, pairwise(_widths(latent_dim, width, channels)), strict=True):
        if shapes[index] != (expected := (*inputs_outputs, *_KERNEL)):
            raise InputError(
                f"{_FLAG} {path}: main.{index}.weight has shape {shapes[index]}, where the tutorial's has {expected};"
                f" {_REMEDY}"
            )
    return latent_dim, width, channels
