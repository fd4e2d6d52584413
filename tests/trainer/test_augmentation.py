from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainer.augmentation import AUGMENTATIONS, augmented, change_colour, cut_out, mirrored_at_random, translate

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


def test_a_critic_without_augmentations_is_itself_and_the_others_apply_in_order(images: Tensor) -> None:
    def critic(seen: Tensor) -> Tensor:
        return seen

    assert augmented(critic, ()) is critic
    torch.manual_seed(0)
    both = augmented(critic, ("translation", "cutout"))(images)
    torch.manual_seed(0)
    torch.testing.assert_close(both, cut_out(translate(images)))
