from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from trainer.augmentation import (
    AUGMENTATIONS,
    augmented,
    change_colour,
    cut_out,
    jittered_at_random,
    mirrored_at_random,
    translate,
)

SIDE = 16


@pytest.fixture
def images() -> Tensor:
    return torch.rand(64, 3, SIDE, SIDE) * 2 - 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_keeps_the_shape_differs_per_image_and_lets_gradients_through(
    name: str, images: Tensor
) -> None:
    same = images[:1].expand(64, -1, -1, -1).clone().requires_grad_()
    result = AUGMENTATIONS[name](same)
    assert result.shape == same.shape
    assert len({tuple(image.flatten().tolist()) for image in result.detach()}) > 8
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert same.grad is not None
    assert same.grad.abs().sum() > 0


def test_an_image_is_translated_by_up_to_an_eighth_of_its_side_over_mid_gray() -> None:
    images = torch.zeros(500, 1, SIDE, SIDE)
    images[:, :, 8, 8] = 1
    found = translate(images).nonzero()[:, 2:]
    assert len(found) == 500
    for axis in (0, 1):
        assert set(found[:, axis].tolist()) == set(range(6, 11))
    border = translate(torch.ones(500, 1, SIDE, SIDE))
    assert set(border.flatten().tolist()) == {0.0, 1.0}


def test_a_square_of_half_the_side_is_cut_out_anywhere(images: Tensor) -> None:
    ones = torch.ones(2000, 1, SIDE, SIDE)
    cut = (cut_out(ones) == 0).sum((1, 2, 3))
    assert cut.max() == (SIDE // 2) ** 2
    assert cut.min() < (SIDE // 2) ** 2 / 2  # partly outside
    assert (cut_out(ones) == 0).any(0).all()


def test_gray_images_stay_gray_in_colour(images: Tensor) -> None:
    gray = images[:, :1].expand(-1, 3, -1, -1)
    changed = change_colour(gray)
    torch.testing.assert_close(changed[:, 0], changed[:, 2])


def test_half_of_the_images_are_mirrored(images: Tensor) -> None:
    result = mirrored_at_random(images)
    mirrored = (result == images.flip(-1)).flatten(1).all(1)
    kept = (result == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 10 < mirrored.sum() < 54


def test_jitter_shows_crops_of_the_enlarged_image_at_every_place() -> None:
    side, large = 32, 36  # 32 x 286 / 256, rounded
    ramp = torch.linspace(-1, 1, side)
    image = torch.stack([ramp[:, None].expand(side, side), ramp[None, :].expand(side, side)])  # rows, columns
    pixels = ((image + 1) * 127.5).permute(1, 2, 0).numpy()
    enlarged = torch.stack(
        [
            torch.from_numpy(
                np.asarray(Image.fromarray(channel).resize((large, large), Image.Resampling.BICUBIC)) / 127.5 - 1
            )
            for channel in pixels.transpose(2, 0, 1)
        ]
    ).clamp(-1, 1)
    crops = {
        (top, left): enlarged[:, top : top + side, left : left + side]
        for top in range(large - side + 1)
        for left in range(large - side + 1)
    }
    shown = jittered_at_random(image.expand(400, -1, -1, -1))
    assert shown.shape == (400, 2, side, side)
    found = {
        next(place for place, crop in crops.items() if torch.allclose(each, crop.float(), atol=1e-5)) for each in shown
    }
    assert found == crops.keys()


def test_jitter_stays_in_range_and_keeps_flat_images() -> None:
    flat = torch.full((4, 1, 16, 16), 0.25)
    torch.testing.assert_close(jittered_at_random(flat), flat)
    edges = torch.ones(4, 1, 16, 16)
    edges[..., :8] = -1  # bicubic interpolation overshoots at an edge
    assert jittered_at_random(edges).abs().max() <= 1


def test_a_critic_without_augmentations_is_itself_and_the_others_apply_in_order(images: Tensor) -> None:
    def critic(seen: Tensor) -> Tensor:
        return seen

    assert augmented(critic, ()) is critic
    torch.manual_seed(0)
    both = augmented(critic, ("translation", "cutout"))(images)
    torch.manual_seed(0)
    torch.testing.assert_close(both, cut_out(translate(images)))


def test_jitter_keeps_the_shape_of_images_that_are_not_square() -> None:
    rows = torch.linspace(-1, 1, 32)[:, None].expand(20, 1, 32, 24)
    shown = jittered_at_random(rows)
    assert shown.shape == rows.shape
    torch.testing.assert_close(shown[..., :1].expand_as(shown), shown)
    steps = shown[:, :, 5:27].diff(dim=2)
    torch.testing.assert_close(steps, torch.full_like(steps, 2 / 31 * 32 / 36), atol=2e-3, rtol=0)
