"""Stacked-MNIST: three MNIST digits, drawn at random, as the red, green and blue channel of one image.

It has 1,000 modes, which a classifier of MNIST can count: metrics/modes.py. Metz et al. 2017, "Unrolled Generative
Adversarial Networks", section 3.3.1; also Srivastava et al. 2017 (VEEGAN) and Lin et al. 2018 (PacGAN), whose number of
training images is used here. Every run sees the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

_CHANNELS: Final = 3


@dataclass(frozen=True)
class Stack:
    """A fixed choice of digits for a number of images."""

    count: int
    seed: int

    def images(self, digits: Tensor) -> Tensor:
        """Stacks uint8 digits (N, 1, S, S); returns uint8 (count, 3, S, S)."""
        images = torch.empty(self.count, _CHANNELS, *digits.shape[2:], dtype=torch.uint8)
        for channel, chosen in enumerate(self._chosen(len(digits)).unbind(1)):
            images[:, channel] = digits[chosen, 0]
        return images

    def labels(self, labels: Tensor) -> Tensor:
        """The classes of the images, int64 (count,), from the labels (N,) of the digits."""
        return joined_digits(labels[self._chosen(len(labels))])

    def _chosen(self, available: int) -> Tensor:
        """The index of the digit in each channel of each image, (count, 3)."""
        generator = np.random.Generator(np.random.PCG64(self.seed))
        return torch.from_numpy(generator.integers(available, size=(self.count, _CHANNELS)))


TRAINING: Final = Stack(128_000, seed=0)  # 393 MB at 32x32
TEST: Final = Stack(26_000, seed=1)  # of MNIST's test images; as many as are generated to count modes


def joined_digits(digits: Tensor) -> Tensor:
    """Digits (N, 3), 0 to 9 -> classes (N,), 0 to 999: 100 x red + 10 x green + blue."""
    return digits @ torch.tensor([100, 10, 1])
