"""Two styles in which gray strokes are drawn in colour, so that a translator can train on the built-in data sets.

Integer arithmetic and a table of colours give the same pixels on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.progress import Progress

_CHUNK = 1024  # images held as floats at a time

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Style:
    """How strokes are drawn."""

    background: Colour
    stroke: Colour
    grow_share: float  # width added to each side of a stroke, as a share of the image's shorter side; negative thins it
    faint: int  # gray level up to which the background shows
    full: int  # gray level from which the full colour shows


INK = Style(background=(248, 241, 222), stroke=(22, 38, 112), grow_share=-1 / 64, faint=70, full=190)
CHALK = Style(background=(29, 66, 49), stroke=(238, 240, 226), grow_share=1 / 40, faint=90, full=190)


def draw(gray: Tensor, index: Tensor, style: Style, progress: Progress) -> Tensor:
    """Draws images `index` (n,) of uint8 (N, 1, H, W), bright strokes on black; returns uint8 RGB (n, 3, H, W)."""
    height, width = gray.shape[-2:]
    colours = _colours(style)
    drawn = torch.empty(len(index), 3, height, width, dtype=torch.uint8)
    for start in progress.track(range(0, len(index), _CHUNK), "drawing"):
        part = index[start : start + _CHUNK]
        levels = _grown(gray[part, 0], round(style.grow_share * min(height, width)))
        torch.stack([table[levels] for table in colours], dim=1, out=drawn[start : start + len(part)])
    return drawn


def _colours(style: Style) -> Tensor:
    """The colour of each gray level, uint8 (3, 256)."""
    levels = torch.arange(256, dtype=torch.float64)
    share = ((levels - style.faint) / (style.full - style.faint)).clamp(0, 1)
    ends = torch.tensor([style.background, style.stroke], dtype=torch.float64)
    return (ends[0, :, None] + (ends[1] - ends[0])[:, None] * share).round().to(torch.uint8)


def _grown(gray: Tensor, pixels: int) -> Tensor:
    """Levels (n, H, W) as int64, with strokes `pixels` wider on each side, or narrower if negative."""
    sign = -1 if pixels < 0 else 1
    levels = gray.float().unsqueeze(1) * sign
    for _ in range(abs(pixels)):
        levels = F.max_pool2d(levels, 3, 1, 1)
    return (levels * sign).squeeze(1).long()
