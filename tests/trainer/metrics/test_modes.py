from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.metrics.classifier import FeatureMetadata, FeatureNetwork
from trainer.metrics.modes import classes_of, divergence_from_uniform, modes_covered


class Brightness(nn.Module):
    """Stands for a classifier: the class of an image is its brightness in 25ths, 0 to 9."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.2), requires_grad=False)

    def features(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2).mean((1, 2, 3))

    def decide(self, features: Tensor) -> Tensor:
        return F.one_hot((features * self.scale).long(), 10).float()


def brightness(channels: int) -> FeatureNetwork:
    metadata = FeatureMetadata(
        task="labels",
        classes=10,
        channels=channels,
        image_size=4,
        accuracy=1,
        data_sha256="0" * 64,
        weights_sha256="0" * 64,
    )
    return FeatureNetwork(Brightness(), metadata)  # type: ignore[arg-type]


def test_a_classifier_of_such_images_names_their_classes() -> None:
    for channels in (1, 3):
        images = torch.tensor([3, 0, 9])[:, None, None, None].expand(-1, channels, 4, 4) * 25 + 5
        classes, count = classes_of(brightness(channels), images.to(torch.uint8))
        assert (classes.tolist(), count) == ([3, 0, 9], 10)


def test_a_classifier_of_gray_digits_reads_colour_images_channel_by_channel() -> None:
    digits = torch.tensor([[1, 2, 3], [0, 0, 9], [9, 0, 0]])
    images = (digits * 25 + 5).to(torch.uint8)[:, :, None, None].expand(-1, -1, 4, 4)
    classes, count = classes_of(brightness(1), images)
    assert (classes.tolist(), count) == ([123, 9, 900], 1000)


@pytest.mark.parametrize(
    ("classes", "count", "covered", "divergence"),
    [
        ([0, 1, 2, 3], 4, 4, 0),
        ([3] * 7, 4, 1, math.log(4)),
        ([0, 0, 2, 2], 4, 2, math.log(2)),
        ([0, 0, 0, 1], 2, 2, 0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
        (list(range(1000)) * 2, 1000, 1000, 0),
    ],
)
def test_covered_classes_and_their_divergence_from_equal_shares(
    classes: list[int], count: int, covered: int, divergence: float
) -> None:
    found = torch.tensor(classes)
    assert modes_covered(found, count) == covered
    assert divergence_from_uniform(found, count) == pytest.approx(divergence, abs=1e-12)
    assert divergence_from_uniform(found, count) >= 0


def test_sampling_adds_the_documented_divergence() -> None:
    generator = torch.Generator().manual_seed(1)
    sampled = torch.randint(1000, (26_000,), generator=generator)
    assert divergence_from_uniform(sampled, 1000) == pytest.approx(999 / 52_000, rel=0.15)
