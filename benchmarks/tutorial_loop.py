"""The training loop of PyTorch's DCGAN tutorial, copied literally: the baseline for the trainer's speed.

fp32 in the default memory layout, default Adam, BCELoss on probabilities, one set of fakes for both updates, a
DataLoader whose workers decode and transform every image again, and losses read at every iteration. The networks are
the trainer's, which equal the tutorial's once a sigmoid follows the discriminator.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trainer.config import GanConfig
from trainer.models import build_discriminator, build_generator
from trainer.models.latent_layer import with_plain_layers

WORKERS = 2


class PictureFiles(Dataset[Tensor]):
    """PNG files, decoded and normalised one by one, like ImageFolder with the tutorial's transforms.

    Args:
        folder: holds the files.
        size: of the images, in pixels.
        channels: 1 or 3.
    """

    def __init__(self, folder: Path, size: int, channels: int) -> None:
        from torchvision import transforms

        self._files = sorted(folder.glob("*.png"))
        self._mode = "L" if channels == 1 else "RGB"
        self._transform = transforms.Compose(
            [
                transforms.Resize(size),
                transforms.CenterCrop(size),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * channels, [0.5] * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self._files[index]) as image:
            tensor: Tensor = self._transform(image.convert(self._mode))
        return tensor


class TutorialLoop:
    """The tutorial's networks, optimisers and iteration.

    Args:
        config: network, batch size and learning rates.
        device: to train on.
    """

    def __init__(self, config: GanConfig, device: torch.device) -> None:
        self._device = device
        self._latent_dim = config.network.latent_dim
        self._generator = with_plain_layers(build_generator(config.network)).to(device)
        self._discriminator = nn.Sequential(build_discriminator(config.network), nn.Sigmoid()).to(device)
        self._loss = nn.BCELoss()
        self._generator_optimizer = torch.optim.Adam(
            self._generator.parameters(), lr=config.generator_lr, betas=config.betas
        )
        self._discriminator_optimizer = torch.optim.Adam(
            self._discriminator.parameters(), lr=config.discriminator_lr, betas=config.betas
        )

    def iterate(self, images: Tensor) -> tuple[float, ...]:
        """One iteration on a batch (N, C, H, W) in [-1, 1]; D loss, G loss, D(x), D(G(z)) before and after."""
        self._discriminator.zero_grad()
        reals = images.to(self._device)
        label = torch.full((len(reals),), 1.0, device=self._device)
        output = self._discriminator(reals).view(-1)
        real_loss = self._loss(output, label)
        real_loss.backward()
        real_score = output.mean().item()
        fakes = self._generator(torch.randn(len(reals), self._latent_dim, device=self._device))
        label.fill_(0.0)
        output = self._discriminator(fakes.detach()).view(-1)
        fake_loss = self._loss(output, label)
        fake_loss.backward()
        fake_score = output.mean().item()
        discriminator_loss = real_loss + fake_loss
        self._discriminator_optimizer.step()

        self._generator.zero_grad()
        label.fill_(1.0)
        output = self._discriminator(fakes).view(-1)
        generator_loss = self._loss(output, label)
        generator_loss.backward()
        fake_score_after = output.mean().item()
        self._generator_optimizer.step()
        return discriminator_loss.item(), generator_loss.item(), real_score, fake_score, fake_score_after

    def use_channels_last(self) -> None:
        """Changes the memory layout of both networks, which the tutorial leaves as it is."""
        for network in (self._generator, self._discriminator):
            network.to(memory_format=torch.channels_last)

    def images_per_second(self, data: Dataset[Tensor], batch_size: int, seconds: float) -> float:
        """Iterates over shuffled batches for about `seconds`, after two warm-up iterations."""
        batches = _endless(data, batch_size)
        try:
            for _ in range(2):
                self.iterate(next(batches))
            _synchronise(self._device)
            began, images = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                batch = next(batches)
                self.iterate(batch)
                images += len(batch)
            _synchronise(self._device)
            return images / (time.perf_counter() - began)
        finally:
            batches.close()  # stops the workers, which would disturb the next measurement


def _endless(data: Dataset[Tensor], batch_size: int) -> Generator[Tensor]:
    while True:
        yield from DataLoader(data, batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
