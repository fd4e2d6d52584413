from __future__ import annotations

import pytest
import torch

from trainer.data import drawn_domains
from trainer.data.drawn_domains import CHALK, INK, Style, draw
from trainer.progress import Progress

STYLES = [INK, CHALK]


def bars(count: int, size: int = 64) -> torch.Tensor:
    """White bars 8 pixels wide on black, each a pixel further down."""
    images = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    for index in range(count):
        top = 16 + index % 32
        images[index, 0, top : top + 8] = 255
    return images


@pytest.mark.parametrize("style", STYLES)
def test_black_is_the_background_and_white_the_stroke(style: Style, quiet: Progress) -> None:
    black, white = torch.zeros(1, 1, 16, 16, dtype=torch.uint8), torch.full((1, 1, 16, 16), 255, dtype=torch.uint8)
    for gray, colour in ((black, style.background), (white, style.stroke)):
        drawn = draw(gray, torch.tensor([0]), style, quiet)
        assert drawn.dtype == torch.uint8
        assert torch.equal(drawn[0], torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 16, 16))


@pytest.mark.parametrize("style", STYLES)
def test_a_brighter_gray_is_closer_to_the_stroke_colour_in_every_channel(style: Style, quiet: Progress) -> None:
    gray = torch.arange(256, dtype=torch.uint8)[:, None, None, None]
    drawn = draw(gray, torch.arange(256), style, quiet)[:, :, 0, 0].int()
    direction = (drawn[-1] - drawn[0]).sign()
    assert (drawn.diff(dim=0) * direction >= 0).all()
    assert len(set(map(tuple, drawn.tolist()))) > 50  # edges stay soft


def test_ink_is_thinner_and_chalk_thicker_than_the_original_stroke(quiet: Progress) -> None:
    thickness = [
        int((draw(bars(1), torch.tensor([0]), style, quiet)[0, 0, :, 32] == style.stroke[0]).sum()) for style in STYLES
    ]
    assert thickness == [6, 12]


@pytest.mark.parametrize("style", STYLES)
def test_images_are_drawn_independently_in_the_order_of_the_index(
    style: Style, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    gray, index = bars(7), torch.tensor([5, 0, 5, 2, 6])
    monkeypatch.setattr(drawn_domains, "_CHUNK", 2)
    drawn = draw(gray, index, style, quiet)
    alone = [draw(gray[number : number + 1], torch.tensor([0]), style, quiet) for number in index.tolist()]
    assert torch.equal(drawn, torch.cat(alone))
    assert draw(gray, index[:0], style, quiet).shape == (0, 3, 64, 64)


def test_drawings_have_the_shape_of_the_images(quiet: Progress) -> None:
    gray = torch.zeros(2, 1, 32, 24, dtype=torch.uint8)
    gray[..., 10:12] = 255
    drawn = draw(gray, torch.arange(2), CHALK, quiet)
    assert drawn.shape == (2, 3, 32, 24)
    assert (drawn[:, 0] > 200).any(1).sum(1).tolist() == [4, 4]  # one pixel wider on each side
