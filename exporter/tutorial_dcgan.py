"""The generator of the PyTorch DCGAN tutorial, read from its file of weights alone: nobody's class is needed.

The tutorial (https://docs.pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html) and the DCGAN of pytorch/examples
save `netG.state_dict()`, as netG_epoch_24.pth. Both have one network, whose sizes its weights tell: `main` is a
Sequential of five transposed convolutions with 4x4 kernels and no bias, batch norm and ReLU between them, tanh at the
end. It is the generator of our architecture dcgan-k4 at 64x64, layer for layer.
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
_CONVOLUTIONS: Final = (0, 3, 6, 9, 12)  # their places in `main`; each but the last has a batch norm after it
_WIDTHS: Final = (8, 4, 2, 1)  # of the maps between them, in ngf
_KERNEL: Final = (4, 4)
_SIZE: Final = 64  # pixels: 4x4 doubled by each convolution but the first
_KEY: Final = re.compile(r"main\.(\d{1,3})\.weight")


def from_tutorial_netg(weights: Path) -> Source:
    """Builds the tutorial's generator from its weights; nz, ngf and nc are read from their shapes.

    Args:
        weights: the state dict, a file of torch.save or safetensors; keys may begin with "module.", as DataParallel
            saves them.

    Raises:
        InputError: the file holds no such generator; the message says what differs.
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
        widths = _widths(latent_dim, width, channels)
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
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
    """(nz, ngf, nc), if the convolutions are the tutorial's."""
    shapes = {
        int(match[1]): tuple(tensor.shape)
        for key, tensor in state.items()
        if (match := _KEY.fullmatch(key.removeprefix("module."))) and tensor.ndim == 4
    }
    if not shapes:
        raise InputError(
            f"{_FLAG} {path}: has no convolutions main.0.weight, main.3.weight, ...; it is another network's: give its"
            " class with --module and the file with --weights"
        )
    if tuple(sorted(shapes)) != _CONVOLUTIONS:
        size = 4 << (len(shapes) - 1) if len(shapes) < 12 else "other"
        found = f"{len(shapes)} convolutions" + (f", for {size}x{size} images" if len(shapes) != 5 else " elsewhere")
        raise InputError(
            f"{_FLAG} {path}: has {found}; the tutorial's generator has 5, for 64x64 images: give the class of this one"
            " with --module and the file with --weights"
        )
    latent_dim, channels = shapes[0][0], shapes[12][1]
    width = shapes[12][0]
    widths = _widths(latent_dim, width, channels)
    for index, place in enumerate(_CONVOLUTIONS):
        expected = (widths[index], widths[index + 1], *_KERNEL)
        if shapes[place] != expected or 0 in expected:
            raise InputError(
                f"{_FLAG} {path}: main.{place}.weight has shape {shapes[place]}, where the tutorial's has {expected}:"
                " give the class of this network with --module and the file with --weights"
            )
    return latent_dim, width, channels
