"""Weights as the DCGAN tutorial saves them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from tests.exporter.generators import randomise


class TutorialNetG(nn.Module):
    """The network of the PyTorch DCGAN tutorial, written for these tests from its published layer table."""

    def __init__(self, nz: int = 100, ngf: int = 64, nc: int = 3, *, bias: bool = False) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, 8 * ngf, 4, 1, 0, bias=bias),
            nn.BatchNorm2d(8 * ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(8 * ngf, 4 * ngf, 4, 2, 1, bias=bias),
            nn.BatchNorm2d(4 * ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(4 * ngf, 2 * ngf, 4, 2, 1, bias=bias),
            nn.BatchNorm2d(2 * ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(2 * ngf, ngf, 4, 2, 1, bias=bias),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=bias),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (N, nz, 1, 1) -> images (N, nc, 64, 64)."""
        return cast(Tensor, self.main(latents))


class LargerNetG(nn.Module):
    """A variation for other image sizes: one convolution per doubling."""

    def __init__(self, convolutions: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ConvTranspose2d(10, 4, 4, 1, 0, bias=False), nn.BatchNorm2d(4), nn.ReLU(True)]
        for _ in range(convolutions - 2):
            layers += [nn.ConvTranspose2d(4, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(True)]
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), nn.Tanh())


def trained_netg(nz: int = 100, ngf: int = 2, nc: int = 3) -> TutorialNetG:
    """A network with batch norm statistics like those after training."""
    return cast(TutorialNetG, randomise(TutorialNetG(nz, ngf, nc)))


def save_netg(path: Path, netg: nn.Module | None = None) -> nn.Module:
    """Writes the state dict and returns the network."""
    netg = netg if netg is not None else trained_netg()
    torch.save(netg.state_dict(), path)
    return netg
