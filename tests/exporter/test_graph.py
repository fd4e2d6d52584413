from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exporter.graph import ServedGraph, SpatialLatents
from ganserve.bundle import ImageInput, LatentInput
from tests.exporter.generators import InverseTranslator, ResNetTranslator

LATENTS = LatentInput(latent_dim=4)
IMAGES = ImageInput(channels=3, height=4, width=4)


class Constant(nn.Module):
    """Returns the same image (2 channels, 1 x 3) for any latents."""

    def __init__(self, image: list[list[list[float]]]) -> None:
        super().__init__()
        self.image = torch.tensor(image)

    def forward(self, latents: Tensor) -> Tensor:
        return self.image.expand(latents.shape[0], -1, -1, -1)


def pixel_of(value: float, value_min: float = -1.0, value_max: float = 1.0) -> int:
    images, pixels = ServedGraph(Constant([[[value]]]), LATENTS, value_min, value_max)(torch.zeros(1, 4))
    assert images.item() == pytest.approx(value)  # images are never clamped or rounded
    return int(pixels.item())


@pytest.mark.parametrize(
    ("value", "pixel"),
    [
        pytest.param(-1.0, 0, id="lowest"),
        pytest.param(1.0, 255, id="highest"),
        pytest.param(0.0, 128, id="middle-127.5-rounds-to-even"),
        pytest.param(-1.0 + 2 * 126.5 / 255, 126, id="half-rounds-to-even-below"),
        pytest.param(-1.0 + 2 * 10.4 / 255, 10, id="rounds-down"),
        pytest.param(-1.0 + 2 * 10.6 / 255, 11, id="rounds-up"),
        pytest.param(-7.0, 0, id="clamped-below"),
        pytest.param(1.01, 255, id="clamped-above"),
        pytest.param(1e30, 255, id="far-above"),
    ],
)
def test_pixel_of_a_value(value: float, pixel: int) -> None:
    assert pixel_of(value) == pixel


@pytest.mark.parametrize(("value", "pixel"), [(0.0, 0), (1.0, 255), (0.2, 51)])
def test_pixel_of_a_value_in_another_range(value: float, pixel: int) -> None:
    assert pixel_of(value, 0.0, 1.0) == pixel


def test_images_are_channels_first_and_pixels_channels_last() -> None:
    graph = ServedGraph(Constant([[[-1.0, 0.0, 1.0]], [[1.0, 1.0, -1.0]]]), LATENTS)
    images, pixels = graph(torch.zeros(5, 4))
    assert images.shape == (5, 2, 1, 3)
    assert images.dtype == torch.float32
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert pixels[4].tolist() == [[[0, 255], [128, 255], [255, 0]]]


def test_spatial_latents_adds_two_axes_of_one() -> None:
    wrapped = SpatialLatents(nn.Identity())
    assert wrapped(torch.zeros(3, 7)).shape == (3, 7, 1, 1)


@pytest.mark.parametrize(("value_min", "value_max"), [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-7.5, 3.0)])
def test_identity_translator_preserves_every_pixel(value_min: float, value_max: float) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(2, 8, 4, 4)
    images, pixels = ServedGraph(nn.Identity(), IMAGES, value_min, value_max)(levels)
    assert torch.equal(pixels, levels)
    assert images.dtype == torch.float32
    assert images.shape == (2, 4, 8, 4)
    assert images.min().item() == pytest.approx(value_min)
    assert images.max().item() == pytest.approx(value_max)


def test_translator_gets_contiguous_channels_first_images_in_the_value_range() -> None:
    input_pixels = torch.zeros(1, 2, 3, 2, dtype=torch.uint8)
    input_pixels[0, 1, 2, 1] = 255  # bottom right, second channel
    images, pixels = ServedGraph(InverseTranslator(total=1.0), IMAGES, 0.0, 1.0)(input_pixels)
    assert images.shape == (1, 2, 2, 3)
    assert images[0, 1, 1, 2].item() == 0.0
    assert images.sum().item() == 11.0
    assert torch.equal(pixels, 255 - input_pixels)
    assert pixels.is_contiguous()


def test_state_dict_holds_only_the_weights() -> None:
    translator = ResNetTranslator()
    assert len(ServedGraph(translator, IMAGES).state_dict()) == len(translator.state_dict())


def test_served_graph_is_in_eval_mode() -> None:
    assert not ServedGraph(nn.Dropout().train(), LATENTS).training
