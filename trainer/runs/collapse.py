"""Detects a run that has stopped making progress: a discriminator that wins, collapsed samples, constant losses.

A watch is a fold over the rows of metrics.jsonl, so a resumed run reads its own rows again and continues as before. It
finds the warnings; the loop decides what to do about them. NaN and infinity end a run at once (session.py).

The thresholds are chosen to be silent while a run still learns, because users ignore frequent false alarms. Background:
Arjovsky and Bottou 2017, "Towards Principled Methods for Training Generative Adversarial Networks", section 2 (a
discriminator that is certain gives no gradient), and Goodfellow 2016, "NIPS 2016 Tutorial: Generative Adversarial
Networks", section 5.1 (mode collapse).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor

LONG_STEPS: Final = 500  # steps that a state must last to cause a warning

# Above this accuracy the discriminator is certain of nearly every image. Accuracy is averaged over about
# 1 / (1 - decay) steps first, because the accuracy of one batch of 64 has a resolution of 1/128.
CERTAIN_ACCURACY: Final = 0.99
ACCURACY_DECAY: Final = 0.98
DOUBTING_ACCURACY: Final = 0.95  # below this the episode is over, and the next one is a new warning

# Spread of the samples relative to that of real images; below this, all samples are nearly the same image.
ALIKE_SPREAD: Final = 0.1
DIVERSE_SPREAD: Final = 0.2  # above this the episode is over
ALIKE_MEASUREMENTS: Final = 2  # in a row: a single bad measurement is not a collapse
# A new generator makes nearly the same image from all latents, for up to a thousand updates. Until its samples have
# been diverse once, it has this many updates.
LEARNING_STEPS: Final = 2000

# Relative change; float32 resolves 6e-8. Batches differ, so the losses of a working network do as well.
STILL_LOSS: Final = 1e-6
_LOSSES: Final = ("d_loss", "g_loss")


@dataclass(frozen=True)
class Notice:
    """A warning about a run."""

    step: int
    name: str
    text: str  # one line, with the remedy


def spread(images: Tensor) -> float:
    """How much images (N, C, H, W), N >= 2, differ: their standard deviation, averaged over pixels."""
    return float(images.float().std(0, correction=0).mean())


def sample_spread(fakes: Tensor, reals: Tensor) -> float | None:
    """The spread of fakes relative to that of real images; None with fewer than two images or equal real ones."""
    if len(fakes) < 2 or len(reals) < 2:
        return None
    share = spread(fakes) / (spread(reals) or math.nan)
    return share if math.isfinite(share) else None


# Name of a notice -> its text.
NOTICES: Final = {
    "discriminator-wins": (
        f"the discriminator has been right about more than {CERTAIN_ACCURACY:.0%} of all images for {LONG_STEPS} steps,"
        " so the generator learns little from it; try a smaller --discriminator-lr, a larger --generator-lr, or"
        " --model wgan-gp"
    ),
    "samples-alike": (
        f"the samples differ by less than {ALIKE_SPREAD:.0%} of how much real images differ, so the generator has"
        " collapsed;"
        " try a smaller --lr, another --seed, or --model wgan-gp, and export an earlier checkpoint"
    ),
    "losses-stand-still": (
        f"no loss has changed for {LONG_STEPS} steps, so a network is dead; try a smaller --lr or another --seed"
    ),
}


@dataclass
class _Certainty:
    """Whether the discriminator has been right about nearly all images for a long time."""

    mean: float | None = None
    steps: int = 0
    since_images: float = 0.0
    warned: bool = False

    def see(self, accuracy: float, images: float, images_per_epoch: int) -> bool:
        mean = accuracy if self.mean is None else ACCURACY_DECAY * self.mean + (1 - ACCURACY_DECAY) * accuracy
        self.mean = mean
        if mean <= CERTAIN_ACCURACY:
            self.steps = 0
            self.warned = self.warned and mean >= DOUBTING_ACCURACY
            return False
        if self.steps == 0:
            self.since_images = images
        self.steps += 1
        long = self.steps >= LONG_STEPS and images - self.since_images >= images_per_epoch
        new = long and not self.warned
        self.warned = self.warned or long
        return new


@dataclass
class _Alikeness:
    """Whether the samples have become alike."""

    times: int = 0
    warned: bool = False
    was_diverse: bool = False

    def see(self, share: float, generator_steps: int) -> bool:
        self.was_diverse = self.was_diverse or share > DIVERSE_SPREAD
        collapsed = share < ALIKE_SPREAD and (self.was_diverse or generator_steps >= LEARNING_STEPS)
        self.times = self.times + 1 if collapsed else 0
        self.warned = self.warned and share <= DIVERSE_SPREAD
        new = self.times >= ALIKE_MEASUREMENTS and not self.warned
        self.warned = self.warned or new
        return new


@dataclass
class _Stillness:
    """Whether all losses have stopped changing."""

    at: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def see(self, row: Mapping[str, Any]) -> bool:
        losses = {name: value for name in _LOSSES if (value := finite_number(row.get(name))) is not None}
        moved = any(
            abs(value - self.at[name]) > STILL_LOSS * abs(self.at[name])
            for name, value in losses.items()
            if name in self.at
        )
        self.steps = 1 if moved else self.steps + 1
        self.at = losses if moved else losses | self.at  # keep the first values, so that a slow drift is a movement
        return self.steps == LONG_STEPS


@dataclass
class Watch:
    """Watches one run, row by row.

    Args:
        images_per_epoch: real images in one pass over the data; a state must last that long to cause a warning.
    """

    images_per_epoch: int
    _generator_steps: int = 0
    _certain: _Certainty = field(default_factory=_Certainty)
    _alike: _Alikeness = field(default_factory=_Alikeness)
    _still: _Stillness = field(default_factory=_Stillness)

    def see(self, row: Mapping[str, Any]) -> list[Notice]:
        """Takes in the next row of metrics.jsonl, of any kind; returns the warnings that it causes, usually none."""
        step, images = row["step"], finite_number(row.get("images")) or 0.0
        found: list[str] = []
        if row["kind"] == "step":
            self._generator_steps += finite_number(row.get("g_loss")) is not None
            accuracy = finite_number(row.get("d_accuracy"))
            if accuracy is not None and self._certain.see(accuracy, images, self.images_per_epoch):
                found.append("discriminator-wins")
            if self._still.see(row):
                found.append("losses-stand-still")
        elif row["kind"] == "samples":
            share = finite_number(row.get("sample_spread"))
            if share is not None and self._alike.see(share, self._generator_steps):
                found.append("samples-alike")
        return [Notice(step, name, NOTICES[name]) for name in found]


def finite_number(value: object) -> float | None:
    """The value as a float if it is a finite number, else None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
