from __future__ import annotations

import pytest
import torch
from torch import nn

from exporter.errors import InputError
from exporter.graph import SpatialLatents
from exporter.output_check import check_output
from ganserve.bundle import ImageInput
from tests.exporter import generators
from tests.exporter.conftest import make_source, make_translator_source
from tests.exporter.generators import FlatGenerator, randomise


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        pytest.param(generators.NoisyGenerator(), "is there noise or dropout in forward", id="noise"),
        pytest.param(generators.BatchStatisticsGenerator(), "BatchNorm without running statistics", id="statistics"),
        pytest.param(generators.NanGenerator(), "gives NaN or infinity", id="nan"),
        pytest.param(generators.HalfPrecisionGenerator(), r"gives torch.float16 \(2, 1, 4, 4\)", id="half"),
        pytest.param(SpatialLatents(generators.FiveChannelGenerator()), "images of 5 channels", id="channels"),
        pytest.param(
            generators.ByteRangeGenerator(), r"not about -1 \.\. 1; give its range with --value-range", id="range"
        ),
        pytest.param(nn.Identity(), r"gives torch.float32 \(2, 6\), not float32 images", id="no-image"),
    ],
)
def test_output_that_cannot_be_served_is_refused(generator: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_output(make_source(randomise(generator)))


def test_generator_without_tanh_may_overshoot() -> None:
    class Overshooting(FlatGenerator):
        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return 1.8 * super().forward(latents)

    assert check_output(make_source(randomise(Overshooting()))) == (1, 4, 4)


def test_translators_images_are_those_of_its_size() -> None:
    assert check_output(make_translator_source(generators.ResNetTranslator())) == (3, 8, 12)


def test_translator_may_change_size_and_channels() -> None:
    enlarging = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Upsample(scale_factor=2), nn.Tanh())
    assert check_output(make_translator_source(enlarging)) == (1, 16, 24)


@pytest.mark.parametrize(
    ("translator", "message"),
    [
        pytest.param(generators.BatchMeanTranslator(), "image of a row changes with its batch", id="neighbours"),
        pytest.param(nn.BatchNorm2d(3, track_running_stats=False), "image of a row changes", id="statistics"),
        pytest.param(nn.Flatten(), r"gives torch.float32 \(2, 288\), not float32 images", id="no-image"),
        pytest.param(nn.Conv2d(3, 5, 1), "images of 5 channels", id="channels"),
        pytest.param(generators.InverseTranslator(total=255.0), "give its range with --value-range", id="range"),
    ],
)
def test_translator_that_cannot_be_served_is_refused(translator: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_output(make_translator_source(translator))


class CountingTranslator(nn.Module):
    """Makes small images of large ones, and notes how many rows it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(images))
        return images[:, :, ::64, ::64].contiguous()


@pytest.mark.parametrize(("side", "rows"), [(64, [2, 8, 4]), (512, [2, 4, 2]), (1024, [2, 2, 1])])
def test_large_images_are_tried_a_few_at_a_time(side: int, rows: list[int]) -> None:
    translator = CountingTranslator()
    check_output(make_translator_source(translator, ImageInput(channels=1, height=side, width=side)))
    assert translator.rows == rows
