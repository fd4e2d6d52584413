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
from exporter.source import Source
from exporter.weights import Note, Weights, read_weights
from ganserve.bundle import LatentInput

_FLAG: Final = "--tutorial-netg"
_REMEDY: Final = "give the class of this network with --module and the file with --weights"
_CONVOLUTIONS: Final = (0, 3, 6, 9, 12)  # their indices in `main`
_WIDTHS: Final = (8, 4, 2, 1)  # channels between the convolutions, in units of ngf
_KERNEL: Final = (4, 4)
_SIZE: Final = 64  # pixels: 4x4, doubled by every convolution but the first
_KEY: Final = re.compile(r"main\.(\d+)\.weight")


def from_tutorial_netg(
    path: Path, weights_key: str | None = None, note: Note = lambda line: None, *, allow_pickle: bool = False
) -> Source:
    """Builds the tutorial's generator; nz, ngf and nc come from the shapes of the weights.

    Args:
        path: A file that `read_weights` reads.
        weights_key: The part of the file to load; None: the one that holds this network.
        note: Called with lines for the user.
        allow_pickle: Run the code in the file, if there is any.

    Raises:
        InputError: The file does not hold this generator; the message says what differs.
    """
    weights = read_weights(path, _FLAG, note, allow_pickle=allow_pickle).within(weights_key)
    latent_dim, width, channels = _read_sizes(weights)
    generator = _Generator(latent_dim, width, channels)
    weights.load_into(generator, note)
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


def _read_sizes(weights: Weights) -> tuple[int, int, int]:
    """Returns (nz, ngf, nc) of the first state dict whose convolutions are the tutorial's."""
    refusals = []
    for _, state in weights.parts():
        try:
            return _sizes_of(state, weights.where)
        except InputError as error:
            refusals.append(error)
    raise refusals[0]


def _sizes_of(state: Mapping[str, Tensor], where: str) -> tuple[int, int, int]:
    shapes = {
        int(match[1]): tuple(tensor.shape)
        for key, tensor in state.items()
        if (match := _KEY.fullmatch(key)) and tensor.ndim == 4
    }
    if tuple(sorted(shapes)) != _CONVOLUTIONS:
        raise InputError(
            f"{where}: has {len(shapes)} convolutions main.N.weight, where the tutorial's generator has 5, at"
            f" N = 0, 3, 6, 9 and 12; {_REMEDY}"
        )
    latent_dim, width, channels = shapes[0][0], *shapes[12][:2]
    for index, inputs_outputs in zip(_CONVOLUTIONS, pairwise(_widths(latent_dim, width, channels)), strict=True):
        if shapes[index] != (expected := (*inputs_outputs, *_KERNEL)):
            raise InputError(
                f"{where}: main.{index}.weight has shape {shapes[index]}, where the tutorial's has {expected};"
                f" {_REMEDY}"
            )
    return latent_dim, width, channels
