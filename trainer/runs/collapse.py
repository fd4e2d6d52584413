"""Notices a training that leads nowhere: a discriminator that has won, samples all alike, losses that stand still.

A watch is a fold over the rows of metrics.jsonl and keeps nothing that they do not tell, so a resumed run reads its own
rows again and goes on as if nothing had happened. It decides what is worth saying; the loop decides what is done.
NaN and infinity are not its business: they end a training at once (session.py).

What each threshold means stands beside it. They are chosen to be silent on a training that still learns: an alarm that
is often false is not read. Background: Arjovsky and Bottou 2017, "Towards Principled Methods for Training Generative
Adversarial Networks", section 2 (a discriminator that is certain gives no gradient), and Goodfellow 2016, "NIPS 2016
Tutorial: Generative Adversarial Networks", section 5.1 (mode collapse).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

LONG_STEPS: Final = 500  # a state must last so long before anything is said of it

# A discriminator that tells so many images apart is certain of nearly every one. Accuracy is averaged over about
# 1 / (1 - decay) steps first, since one batch of 64 moves in steps of 1/128.
CERTAIN_ACCURACY: Final = 0.99
ACCURACY_DECAY: Final = 0.98
DOUBTING_ACCURACY: Final = 0.95  # below this the episode is over, and the next one is told again

# Samples that differ from each other by less than so much of what real images do are nearly one image.
ALIKE_SPREAD: Final = 0.1
DIVERSE_SPREAD: Final = 0.2  # above this the episode is over
ALIKE_MEASUREMENTS: Final = 2  # in a row: one bad moment is no collapse
# A new generator makes nearly one image of all latents, and some need a thousand updates to leave that behind. Until
# its samples have once been diverse it is given so many.
LEARNING_STEPS: Final = 2000

# Relative; float32 resolves 6e-8. Batches differ, so the losses of a network that answers to its input do as well.
STILL_LOSS: Final = 1e-6
_LOSSES: Final = ("d_loss", "g_loss")


@dataclass(frozen=True)
class Notice:
    """Something a user should know of a training."""

    step: int
    name: str
    text: str  # one line, with what to try


def spread(images: Tensor) -> float:
    """How much images (N, C, H, W), N >= 2, differ from each other: the mean over pixels of the deviation over them."""
    return float(images.float().std(0, correction=0).mean())


def sample_spread(fakes: Tensor, reals: Tensor) -> float | None:
    """The spread of fakes as a share of that of real images; None if there is nothing to compare."""
    if len(fakes) < 2 or len(reals) < 2:
        return None
    share = spread(fakes) / (spread(reals) or math.nan)
    return share if math.isfinite(share) else None


class Watch:
    """What has been seen of a run so far.

    Args:
        images_per_epoch: real images in one pass over the data; a state must last for one before anything is said.
    """

    def __init__(self, images_per_epoch: int) -> None:
        self._images_per_epoch = images_per_epoch
        self._generator_steps = 0
        self._certain = _Certainty()
        self._alike = _Alikeness()
        self._still = _Stillness()

    def see(self, row: Mapping[str, Any]) -> list[Notice]:
        """Takes in the next row of metrics.jsonl, of any kind; returns what is to be said now, mostly nothing."""
        step, images = row["step"], _number(row.get("images")) or 0.0
        found: list[str] = []
        if row["kind"] == "step":
            self._generator_steps += _number(row.get("g_loss")) is not None
            accuracy = _number(row.get("d_accuracy"))
            if accuracy is not None and self._certain.see(accuracy, images, self._images_per_epoch):
                found.append("discriminator-wins")
            if self._still.see(row):
                found.append("losses-stand-still")
        elif row["kind"] == "samples":
            share = _number(row.get("sample_spread"))
            if share is not None and self._alike.see(share, self._generator_steps):
                found.append("samples-alike")
        return [Notice(step, name, NOTICES[name]) for name in found]


# By the name of a notice.
NOTICES: Final = {
    "discriminator-wins": (
        f"the discriminator has been right about more than {CERTAIN_ACCURACY:.0%} of all images for {LONG_STEPS} steps,"
        " so the generator learns little from it; try a smaller --discriminator-lr, a larger --generator-lr, or"
        " --model wgan-gp"
    ),
    "samples-alike": (
        f"the samples differ by less than {ALIKE_SPREAD:.0%} of what real images do, so the generator has collapsed;"
        " try a smaller --lr, another --seed, or --model wgan-gp, and export an earlier checkpoint"
    ),
    "losses-stand-still": (
        f"no loss has changed for {LONG_STEPS} steps, so a network is dead; try a smaller --lr or another --seed"
    ),
}


class _Certainty:
    """Whether the discriminator has been certain for long."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self._steps = 0
        self._since_images = 0.0
        self._said = False

    def see(self, accuracy: float, images: float, images_per_epoch: int) -> bool:
        mean = accuracy if self._mean is None else ACCURACY_DECAY * self._mean + (1 - ACCURACY_DECAY) * accuracy
        self._mean = mean
        if mean <= CERTAIN_ACCURACY:
            self._steps = 0
            self._said = self._said and mean >= DOUBTING_ACCURACY
            return False
        if self._steps == 0:
            self._since_images = images
        self._steps += 1
        long = self._steps >= LONG_STEPS and images - self._since_images >= images_per_epoch
        new = long and not self._said
        self._said = self._said or long
        return new


class _Alikeness:
    """Whether the samples have become alike."""

    def __init__(self) -> None:
        self._times = 0
        self._said = False
        self._was_diverse = False

    def see(self, share: float, generator_steps: int) -> bool:
        self._was_diverse = self._was_diverse or share > DIVERSE_SPREAD
        collapsed = share < ALIKE_SPREAD and (self._was_diverse or generator_steps >= LEARNING_STEPS)
        self._times = self._times + 1 if collapsed else 0
        self._said = self._said and share <= DIVERSE_SPREAD
        new = self._times >= ALIKE_MEASUREMENTS and not self._said
        self._said = self._said or new
        return new


class _Stillness:
    """Whether all losses stand still."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._steps = 0

    def see(self, row: Mapping[str, Any]) -> bool:
        losses = {name: value for name in _LOSSES if (value := _number(row.get(name))) is not None}
        moved = any(
            abs(value - self._at[name]) > STILL_LOSS * abs(self._at[name])
            for name, value in losses.items()
            if name in self._at
        )
        self._steps = 1 if moved else self._steps + 1
        self._at = losses if moved else losses | self._at  # what it stood at first: a slow drift is a movement
        return self._steps == LONG_STEPS


def _number(value: object) -> float | None:
    """A finite number of a row; anything else that the file may hold is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
