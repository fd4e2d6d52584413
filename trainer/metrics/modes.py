"""How many classes a set of images covers, and how evenly.

Each image counts for the class that a classifier gives it, however unlike that class it looks; so read these metrics
together with one of quality. Metz et al. 2017, "Unrolled Generative Adversarial Networks", section 3.3.1; Lin et al.
2018, "PacGAN", section 4.1, generates 26,000 images of Stacked-MNIST's 1,000 classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.data.stacked_mnist import joined_digits
from trainer.metrics.classifier import FeatureNetwork


def classes_of(network: FeatureNetwork, images: Tensor) -> tuple[Tensor, int]:
    """The class of each uint8 image (N, C, H, W), int64 (N,), and the number of classes.

    A classifier of gray digits reads the three channels of colour images one by one, as the digits of Stacked-MNIST.
    """
    classes = network.metadata.classes
    if images.shape[1] == network.metadata.channels:
        return network.probabilities(images).argmax(1), classes
    digits = [network.probabilities(channel).argmax(1) for channel in torch.split(images, 1, dim=1)]
    return joined_digits(torch.stack(digits, dim=1)), classes ** len(digits)


def modes_covered(classes: Tensor, count: int) -> int:
    """The number of the `count` classes that occur in int64 `classes` (N,)."""
    return int(torch.bincount(classes, minlength=count).count_nonzero())


def divergence_from_uniform(classes: Tensor, count: int) -> float:
    """KL(p || uniform) in nats, where p are the shares of the `count` classes in int64 `classes` (N,).

    0 if all are equally frequent, log(count) if all images are of one class. Sampling adds about (count - 1) / 2N.
    """
    shares = torch.bincount(classes, minlength=count).double() / len(classes)
    divergence: float = torch.special.xlogy(shares, shares * count).sum().item()
    return max(0.0, divergence)
