from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import UserError
from trainer.models.growth import (
    GrowthConfig,
    GrowthState,
    batch_size_at,
    batch_sizes,
    blend,
    check_growth,
    downscale,
    growth_at,
    pixels_shown,
    total_images,
)

# The recipe that the paper's authors published for one GPU.
ONE_GPU = GrowthConfig(
    stabilise_images=600_000,
    fade_images=600_000,
    batch_sizes={32: 64, 64: 32, 128: 16, 256: 8, 512: 4, 1024: 4},
)
# The paper's own (appendix A.1): twice 800,000 images per resolution, and a batch of 16 up to 128x128.
PAPER = GrowthConfig(stabilise_images=800_000, fade_images=800_000, batch_sizes={256: 14, 512: 6, 1024: 3})

# Images seen (thousands), resolution, alpha, batch size.
ONE_GPU_SCHEDULE = [
    (0, 4, 1.0, 128),
    (599.999, 4, 1.0, 128),
    (600, 8, 0.0, 128),
    (750, 8, 0.25, 128),
    (1_199.994, 8, 0.99999, 128),
    (1_200, 8, 1.0, 128),
    (1_799.999, 8, 1.0, 128),
    (1_800, 16, 0.0, 128),
    (2_400, 16, 1.0, 128),
    (3_300, 32, 0.5, 64),
    (3_600, 32, 1.0, 64),
    (4_200, 64, 0.0, 32),
    (4_800, 64, 1.0, 32),
    (5_700, 128, 0.5, 16),
    (6_000, 128, 1.0, 16),
    (6_900, 256, 0.5, 8),
    (7_200, 256, 1.0, 8),
    (8_100, 512, 0.5, 4),
    (8_400, 512, 1.0, 4),
    (9_000, 1024, 0.0, 4),
    (9_300, 1024, 0.5, 4),
    (9_600, 1024, 1.0, 4),
    (10_200, 1024, 1.0, 4),
    (12_000, 1024, 1.0, 4),
]


def growths(start: int = 4) -> st.SearchStrategy[GrowthConfig]:
    return st.builds(
        GrowthConfig,
        start_resolution=st.sampled_from([start, 4 * start]),
        stabilise_images=st.integers(1, 1000),
        fade_images=st.integers(0, 1000),
        batch_sizes=st.dictionaries(st.sampled_from([4, 8, 16, 32, 64]), st.integers(1, 200)),
    )


FINAL = st.sampled_from([16, 32, 64, 1024])
IMAGES = st.integers(0, 20_000)


@pytest.mark.parametrize(("thousands", "resolution", "alpha", "batch_size"), ONE_GPU_SCHEDULE)
def test_the_schedule_of_the_published_recipe(thousands: float, resolution: int, alpha: float, batch_size: int) -> None:
    images = round(thousands * 1000)
    state = growth_at(ONE_GPU, 1024, images)
    assert state.resolution == resolution
    assert state.alpha == pytest.approx(alpha, abs=1e-12)
    assert batch_size_at(ONE_GPU, 1024, images, 128) == batch_size


@pytest.mark.parametrize(
    ("images", "resolution", "alpha", "batch_size"),
    [
        (799_999, 4, 1.0, 16),
        (1_200_000, 8, 0.5, 16),
        (8_000_000, 128, 1.0, 16),
        (8_800_000, 256, 0.0, 14),
        (10_800_000, 512, 0.5, 6),
        (13_600_000, 1024, 1.0, 3),
    ],
)
def test_the_schedule_of_the_paper(images: int, resolution: int, alpha: float, batch_size: int) -> None:
    state = growth_at(PAPER, 1024, images)
    assert state.resolution == resolution
    assert state.alpha == pytest.approx(alpha)
    assert batch_size_at(PAPER, 1024, images, 16) == batch_size


def test_totals_end_with_the_last_stabilising_phase() -> None:
    assert total_images(ONE_GPU, 1024) == 600_000 + 8 * 1_200_000 == 10_200_000
    assert total_images(ONE_GPU, 8) == 1_800_000
    assert total_images(GrowthConfig(start_resolution=8, stabilise_images=10, fade_images=5), 8) == 10


def test_a_start_at_the_final_resolution_never_fades() -> None:
    growth = GrowthConfig(start_resolution=32, stabilise_images=10, fade_images=10)
    assert {growth_at(growth, 32, images) for images in range(100)} == {GrowthState(32, 1.0)}


def test_without_fades_a_new_stage_has_full_weight_immediately() -> None:
    growth = GrowthConfig(stabilise_images=10, fade_images=0)
    states = [growth_at(growth, 16, images) for images in (0, 9, 10, 19, 20, 1000)]
    assert [state.resolution for state in states] == [4, 4, 8, 8, 16, 16]
    assert all(state.alpha == 1 for state in states)


def test_the_smaller_of_the_two_batch_sizes_is_used() -> None:
    growth = GrowthConfig(stabilise_images=1, fade_images=0, batch_sizes={4: 64})
    assert batch_size_at(growth, 8, 0, 16) == 16
    assert batch_size_at(growth, 8, 0, 128) == 64
    assert batch_size_at(growth, 8, 1, 128) == 128


def height(state: GrowthState) -> float:
    """The growth as one number: the finest image is a mix of 2^floor and 2^ceil pixels."""
    return math.log2(state.resolution) - 1 + state.alpha


@given(growths(), FINAL, IMAGES, IMAGES)
def test_growth_never_falls_and_never_jumps(growth: GrowthConfig, final: int, first: int, second: int) -> None:
    first, second = sorted((first, second))
    before, after = growth_at(growth, final, first), growth_at(growth, final, second)
    for state in (before, after):
        assert growth.start_resolution <= state.resolution <= final
        assert 0 <= state.alpha <= 1
        assert state.resolution > growth.start_resolution or state.alpha == 1
    assert before.resolution <= after.resolution
    assert height(before) <= height(after)
    if growth.fade_images:
        assert height(after) - height(before) <= (second - first) / growth.fade_images + 1e-9


@given(growths(), FINAL)
def test_the_last_phase_begins_after_all_earlier_phases(growth: GrowthConfig, final: int) -> None:
    end = total_images(growth, final)
    state = growth_at(growth, final, end - growth.stabilise_images)
    assert (state.resolution, state.alpha) == (final, 1.0)
    assert growth_at(growth, final, end * 10) == state
    if final > growth.start_resolution:
        assert growth_at(growth, final, end - growth.stabilise_images - 1) != state


@given(growths(), FINAL, IMAGES, st.integers(1, 256))
def test_a_batch_never_exceeds_a_bound(growth: GrowthConfig, final: int, images: int, batch_size: int) -> None:
    size = batch_size_at(growth, final, images, batch_size)
    bound = growth.batch_sizes.get(growth_at(growth, final, images).resolution, math.inf)
    assert size in (batch_size, bound)
    assert 1 <= size <= min(batch_size, bound)


@pytest.mark.parametrize(
    ("growth", "final", "field"),
    [
        (GrowthConfig(start_resolution=64, stabilise_images=1, fade_images=1), 32, "growth.start_resolution 64"),
        (GrowthConfig(start_resolution=12, stabilise_images=1, fade_images=1), 32, "growth.start_resolution 12"),
        (GrowthConfig(start_resolution=2, stabilise_images=1, fade_images=1), 32, "growth.start_resolution 2"),
        (GrowthConfig(start_resolution=0, stabilise_images=1, fade_images=1), 32, "growth.start_resolution 0"),
        (GrowthConfig(start_resolution=-4, stabilise_images=1, fade_images=1), 32, "growth.start_resolution -4"),
        (GrowthConfig(stabilise_images=1, fade_images=1, batch_sizes={48: 4}), 32, "growth.batch_sizes: 48"),
        (ONE_GPU, 4, "--image-size 4"),
        (ONE_GPU, 48, "--image-size 48"),
        (ONE_GPU, 2048, "--image-size 2048"),
    ],
)
def test_an_invalid_growth_is_refused_with_its_field(growth: GrowthConfig, final: int, field: str) -> None:
    with pytest.raises(UserError, match=f"^{field}"):
        check_growth(growth, final)


@pytest.mark.parametrize("final", [8, 64, 1024])
def test_growth_to_any_final_resolution_is_accepted(final: int) -> None:
    check_growth(ONE_GPU, final)  # bounds for resolutions above the final one are ignored


def test_growth_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(ONE_GPU), type=GrowthConfig) == ONE_GPU
    assert msgspec.convert(msgspec.to_builtins(ONE_GPU), GrowthConfig) == ONE_GPU


@pytest.mark.parametrize(
    "raw",
    [
        {"stabilise_images": 0, "fade_images": 1},
        {"stabilise_images": 1, "fade_images": -1},
        {"stabilise_images": 1, "fade_images": 1, "batch_sizes": {"8": 0}},
        {"stabilise_images": 1, "fade_images": 1, "stabilize": 1},
    ],
)
def test_settings_out_of_range_are_refused(raw: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(raw), type=GrowthConfig)


@pytest.mark.parametrize("resolution", [1, 4, 8, 16])
def test_downscaled_pixels_are_means_of_boxes(resolution: int) -> None:
    images = torch.randn(2, 3, 16, 16)
    box = 16 // resolution
    expected = images.numpy().reshape(2, 3, resolution, box, resolution, box).mean(axis=(3, 5))
    np.testing.assert_allclose(downscale(images, resolution).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_images_of_the_resolution_stay_as_they_are_square_or_not() -> None:
    images = torch.randn(2, 3, 16, 12)
    assert downscale(images, 16) is images


@pytest.mark.parametrize(("height", "width", "resolution"), [(16, 16, 5), (16, 16, 32), (16, 8, 8)])
def test_a_resolution_that_does_not_divide_the_image_is_refused(height: int, width: int, resolution: int) -> None:
    with pytest.raises(ValueError, match=f"{height}x{width}"):
        downscale(torch.zeros(1, 1, height, width), resolution)


@given(st.floats(0, 1))
def test_a_blend_weighs_images_and_their_coarse_copies(alpha: float) -> None:
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.float64).view(2, 3, 4, 4)
    means = images.numpy().reshape(2, 3, 2, 2, 2, 2).mean(axis=(3, 5))
    coarse = means.repeat(2, axis=2).repeat(2, axis=3)
    expected = images.numpy() * alpha + coarse * (1 - alpha)
    np.testing.assert_allclose(blend(images, alpha).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_a_blend_keeps_the_means_of_2x2_pixels() -> None:
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(downscale(blend(images, 0.3), 8), downscale(images, 8))
    assert blend(images, 1.0) is images


@given(st.integers(1, 9), st.integers(0, 9), FINAL, st.integers(0, 150))
def test_pixels_shown_count_every_image_at_its_resolution(
    stabilise_images: int, fade_images: int, final_resolution: int, images: int
) -> None:
    growth = GrowthConfig(stabilise_images=stabilise_images, fade_images=fade_images)
    each = [growth_at(growth, final_resolution, image).resolution ** 2 for image in range(images)]
    assert pixels_shown(growth, final_resolution, images) == sum(each)


def test_the_batch_sizes_of_a_growing_run_are_those_of_its_steps() -> None:
    growth = GrowthConfig(stabilise_images=4, fade_images=4, batch_sizes={8: 6, 32: 2, 64: 1})
    met = {batch_size_at(growth, 32, images, 7) for images in range(40)}
    assert met == set(batch_sizes(growth, 32, 7)) == {7, 6, 2}
