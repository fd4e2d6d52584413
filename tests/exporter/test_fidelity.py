from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from exporter.errors import ParityError
from exporter.graph import ServedGraph, served_graph
from exporter.variants import MIN_PSNR_DB, MIN_WITHIN_ONE_LEVEL, _judge, compared_images, measure_fidelity
from exporter.verify import Arrays
from ganserve.bundle import ImageInput, LatentInput, RowInput
from tests.ganserve.test_card import NO_DEADLINE

IMAGE_INPUT = ImageInput(channels=3, height=4, width=6)
Change = Callable[[NDArray[Any], NDArray[Any]], Arrays]


def changed(graph: ServedGraph, change: Change) -> tuple[Callable[[NDArray[Any]], Arrays], list[int]]:
    """A variant that differs in a known way, and the list of the batches it is given."""
    batches: list[int] = []

    def run(batch: NDArray[Any]) -> Arrays:
        batches.append(len(batch))
        images, pixels = graph(torch.from_numpy(batch))
        return change(images.numpy().copy(), pixels.numpy().copy())

    return run, batches


def measure(change: Change) -> Any:
    graph = served_graph(nn.Identity(), IMAGE_INPUT, -1.0, 1.0)
    return measure_fidelity(graph, changed(graph, change)[0], IMAGE_INPUT)


def test_variant_that_differs_in_nothing_has_finite_figures() -> None:
    graph = served_graph(nn.Identity(), IMAGE_INPUT, -1.0, 1.0)
    run, batches = changed(graph, lambda images, pixels: (images, pixels))
    fidelity = measure_fidelity(graph, run, IMAGE_INPUT)
    assert (fidelity.images, fidelity.within_one_level, fidelity.psnr_db) == (256, 1.0, 99.0)
    assert (fidelity.largest_level_difference, fidelity.published) == (0, True)
    assert sum(batches) == 256
    assert {1, 64} <= set(batches)  # a lone row, and full batches


def test_pixels_are_what_is_compared() -> None:
    def nudge(images: NDArray[Any], pixels: NDArray[Any]) -> Arrays:
        pixels[:, 0, 0, 0] ^= 1  # one of 72 values of each image, by one level
        return images + np.float32(0.5), pixels

    fidelity = measure(nudge)
    assert (fidelity.within_one_level, fidelity.largest_level_difference) == (1.0, 1)
    assert fidelity.psnr_db == pytest.approx(10 * math.log10(255**2 * 72))
    assert fidelity.published


def test_large_differences_are_refused_however_they_wrap_around() -> None:
    fidelity = measure(lambda images, pixels: (images, 255 - pixels))
    assert not fidelity.published
    assert fidelity.largest_level_difference == 255
    assert fidelity.psnr_db < 10


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_count_as_wrong_though_their_pixels_are_right(value: float) -> None:
    def spoil(images: NDArray[Any], pixels: NDArray[Any]) -> Arrays:
        images[:, 1, 2, 3] = value
        return images, pixels

    fidelity = measure(spoil)
    assert fidelity.within_one_level == pytest.approx(71 / 72)
    assert fidelity.largest_level_difference == 255
    assert not fidelity.published


@pytest.mark.parametrize(
    "change",
    [
        lambda images, pixels: (images, pixels.astype(np.int16)),
        lambda images, pixels: (images.astype(np.float16), pixels),
        lambda images, pixels: (images, pixels.transpose(0, 3, 1, 2)),
        lambda images, pixels: (images[:1], pixels),
    ],
)
def test_other_outputs_than_the_networks_are_an_error(change: Change) -> None:
    with pytest.raises(ParityError, match=r"^gives .* rows$"):
        measure(change)


@NO_DEADLINE
@given(st.lists(st.integers(0, 1 << 40), min_size=256, max_size=256).filter(any))
def test_figures_are_of_all_pixel_values(counts: list[int]) -> None:
    fidelity = _judge(np.array(counts, np.int64), 5)
    total = sum(counts)
    assert fidelity.within_one_level == pytest.approx((counts[0] + counts[1]) / total)
    squared_error = sum(count * level**2 for level, count in enumerate(counts)) / total
    expected = 10 * math.log10(255**2 / squared_error) if squared_error else math.inf
    assert fidelity.psnr_db == pytest.approx(min(99.0, expected))
    assert fidelity.largest_level_difference == max(level for level, count in enumerate(counts) if count)
    assert fidelity.published == (fidelity.within_one_level >= MIN_WITHIN_ONE_LEVEL and fidelity.psnr_db >= MIN_PSNR_DB)


@pytest.mark.parametrize(
    ("levels", "published"),
    [
        pytest.param({0: 999, 1: 0, 2: 1}, True, id="as-many-as-allowed-are-off-by-two"),
        pytest.param({0: 998, 1: 0, 2: 2}, False, id="more-are"),
        pytest.param({0: 400, 1: 600}, True, id="most-are-off-by-one"),
        pytest.param({1: 1000}, False, id="all-are-off-by-one"),
        pytest.param({0: 9_999, 255: 1}, False, id="one-is-far-off"),
    ],
)
def test_both_limits_count(levels: dict[int, int], published: bool) -> None:
    counts = np.zeros(256, np.int64)
    counts[list(levels)] = list(levels.values())
    assert _judge(counts, 1).published == published


@pytest.mark.parametrize(
    ("row_input", "side", "images"),
    [
        (LatentInput(latent_dim=6), 28, 256),
        (LatentInput(latent_dim=6), 128, 256),
        (LatentInput(latent_dim=6), 256, 64),
        (LatentInput(latent_dim=6), 1024, 16),
        (ImageInput(channels=3, height=256, width=256), 64, 64),
    ],
)
def test_fewer_large_images_are_compared(row_input: RowInput, side: int, images: int) -> None:
    assert compared_images(row_input, side, side) == images
