"""Judges a finished run by its metrics: missing modes, images far from real ones, translations unlike their partners.

Like the watch of collapse.py, a verdict is a fold over the rows of metrics.jsonl, so a resumed run comes to the same
one. A run that is extended is judged again at its new end; its earlier warnings are dropped.

The thresholds are measured, and silent on runs whose images look right: decisions/0025 has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from trainer.runs.collapse import Notice, finite_number

# MS-SSIM of samples above this many times that of real images; the difference keeps noise out where real images hardly
# resemble each other.
ALIKE_RATIO: Final = 1.5
ALIKE_DIFFERENCE: Final = 0.05

# Frechet distance above the floor, as a share of the variance of real features. That variance is the distance of a
# generator that always makes the average image; its share does not depend on the classifier or the number of images.
FAR_VARIANCE_SHARE: Final = 0.2
FAR_SWD: Final = 40.0  # above the floor; 1000 is one standard deviation of the pixels

# Of translators with paired test images: errors of unchanged images that must be gone at the end.
UNCHANGED_L1_SHARE: Final = 0.95
SIMILARITY_GAIN: Final = 0.1  # share of the way from the similarity of unchanged images to 1
SIMILARITY_LOSS: Final = 0.1  # below the best of the run

_SWD: Final = "sliced_wasserstein_distance"

VERDICTS: Final = ("modes-missing", "far-from-real", "no-better-than-unchanged", "partners-missed")


@dataclass
class Verdict:
    """Judges one run by its last evaluation.

    Attributes:
        remedy: flags that often help and that this run does not use yet, if any.
        chosen_by: the metric that chooses the best checkpoint. If it is SWD, SWD judges how far images are from real
            ones as well: with few pictures, the features of the Frechet distance are no guide.
        last: row of the last evaluation; empty before it.
    """

    remedy: str = ""
    chosen_by: str = "frechet_distance"
    last: Mapping[str, Any] = field(default_factory=dict)
    _floor: Mapping[str, Any] = field(default_factory=dict)  # of the last image size
    _best_similarity: float = -math.inf  # of translations to their partners

    def see(self, row: Mapping[str, Any]) -> None:
        """Takes in the next row of metrics.jsonl, of any kind."""
        if row["kind"] == "floor":
            self._floor = row
        elif row["kind"] == "evaluation":
            self.last = row
            similarity = finite_number(row.get("paired_ms_ssim"))
            if similarity is not None:
                self._best_similarity = max(similarity, self._best_similarity)

    def notices(self) -> list[Notice]:
        """The warnings about the last evaluation, at its step; none if there was no evaluation."""
        found = {
            "modes-missing": self._modes_missing(),
            "far-from-real": self._far_from_real(),
            "no-better-than-unchanged": self._no_better_than_unchanged(),
            "partners-missed": self._partners_missed(),
        }
        return [Notice(self.last["step"], name, text) for name, text in found.items() if text is not None]

    def _modes_missing(self) -> str | None:
        fakes, reals = self._value("ms_ssim"), self._value("ms_ssim_real")
        if fakes is None or reals is None or fakes <= max(ALIKE_RATIO * reals, reals + ALIKE_DIFFERENCE):
            return None
        return (
            f"the samples resemble each other more than real images do (MS-SSIM {fakes:.3f}, real images"
            f" {reals:.3f}), so kinds of images are missing; train longer, or try {self._remedies} or more data"
        )

    def _far_from_real(self) -> str | None:
        distance, variance = self._value("frechet_distance"), self._value("feature_variance")
        floor = finite_number(self._floor.get("frechet_distance")) or 0.0
        if distance is not None and variance is not None and self.chosen_by != _SWD:
            name, limit = "Frechet distance", floor + FAR_VARIANCE_SHARE * variance
        else:
            distance = self._value(_SWD)
            floor = finite_number(self._floor.get(_SWD)) or 0.0
            name, limit = "SWD", floor + FAR_SWD
        if distance is None or distance <= limit:
            return None
        return (
            f"the generated images are still far from real ones ({name} {distance:.4g}; a good run ends below"
            f" {limit:.4g}); train longer, or try {self._remedies}"
        )

    def _no_better_than_unchanged(self) -> str | None:
        error, unchanged = self._value("paired_l1"), self._value("paired_l1_unchanged")
        if error is None or unchanged is None or error <= UNCHANGED_L1_SHARE * unchanged:
            return None
        return (
            f"translated images are hardly closer to their partners than unchanged ones (L1 {error:.3f}, unchanged"
            f" {unchanged:.3f}); train longer, or try {self._remedies}"
        )

    def _partners_missed(self) -> str | None:
        similarity, unchanged = self._value("paired_ms_ssim"), self._value("paired_ms_ssim_unchanged")
        if similarity is None or unchanged is None:
            return None
        best = self._best_similarity
        if similarity > unchanged + SIMILARITY_GAIN * (1 - unchanged) and similarity >= best - SIMILARITY_LOSS:
            return None
        return (
            f"translated images do not have the shapes of their partners (MS-SSIM {similarity:.3f}, unchanged"
            f" {unchanged:.3f}, best of the run {best:.3f}); figure and ground may be swapped: look at samples/;"
            f" train longer, or try {self._remedies}"
        )

    @property
    def _remedies(self) -> str:
        return f"{self.remedy}, another --seed" if self.remedy else "another --seed"

    def _value(self, name: str) -> float | None:
        return finite_number(self.last.get(name))
