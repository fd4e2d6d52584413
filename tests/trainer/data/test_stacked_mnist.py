from __future__ import annotations

import pytest
import torch

from trainer.data.stacked_mnist import TEST, TRAINING, Stack, joined_digits

# "Digits" of one pixel, whose value is 10 x the label.
LABELS = torch.arange(10)
DIGITS = (10 * LABELS).to(torch.uint8)[:, None, None, None]


@pytest.mark.parametrize("stack", [TRAINING, TEST])
def test_the_label_of_an_image_names_the_digit_in_each_channel(stack: Stack) -> None:
    images, labels = stack.images(DIGITS), stack.labels(LABELS)
    assert images.shape == (stack.count, 3, 1, 1)
    assert images.dtype == torch.uint8
    red, green, blue = (images[:, channel, 0, 0].long() // 10 for channel in range(3))
    assert torch.equal(labels, 100 * red + 10 * green + blue)


def test_all_thousand_classes_are_about_equally_frequent() -> None:
    counts = torch.bincount(TRAINING.labels(LABELS), minlength=1000)
    assert len(counts) == 1000
    assert counts.min() > 128 * 0.55  # 5 standard deviations
    assert counts.max() < 128 * 1.45


def test_every_run_sees_the_same_images_and_the_test_images_are_others() -> None:
    assert TRAINING.labels(LABELS)[:5].tolist() == Stack(5, seed=0).labels(LABELS).tolist()
    assert TRAINING.labels(LABELS)[:5].tolist() != TEST.labels(LABELS)[:5].tolist()
    # Notices a numpy that draws other numbers.
    assert TRAINING.labels(LABELS)[:3].tolist() == [865, 230, 1]


def test_digits_join_to_a_number() -> None:
    assert joined_digits(torch.tensor([[0, 0, 7], [9, 8, 7]])).tolist() == [7, 987]
