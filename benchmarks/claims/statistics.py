"""Turns one number per seed into an effect, its interval and a verdict. No distribution is assumed.

Seeds are few, so the interval is the expanded percentile bootstrap (Hesterberg 2015, "What Teachers Should Know About
the Bootstrap", section 5.3): the plain percentile interval is too narrow, by the factor sqrt((n-1)/n) and because
it uses normal instead of t quantiles. With 3 seeds it spans all values, so only groups without overlap differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

Floats: TypeAlias = NDArray[np.float64]
Side = Literal["above", "below"]
Verdict = Literal["supported", "contradicted", "unclear", "not run"]
Group: TypeAlias = tuple[str, Sequence[float] | Floats]  # label, and one value per seed

CONFIDENCE = 0.95
_DRAWS = 10_000


@dataclass(frozen=True)
class Effect:
    """One comparison over seeds, and where the claim places it."""

    name: str
    estimate: float
    low: float  # of the 95 % interval; NaN for a single seed
    high: float
    standardised: float | None  # Hedges' g; None if `estimate` has no unit or nothing varies
    measure: str  # what `estimate` is: "difference of means", "mean", "rank-biserial"
    groups: tuple[tuple[str, tuple[float, ...]], ...]  # label, and one value per seed
    claimed: Side | None = None  # the side of `reference` that the claim names; None: reported only
    reference: float = 0.0

    @property
    def decides(self) -> bool:
        """Whether the verdict on the claim depends on this effect."""
        return self.claimed is not None

    @property
    def seeds(self) -> int:
        """Seeds in the smallest group."""
        return min(len(values) for _, values in self.groups)

    @property
    def verdict(self) -> Verdict:
        """Whether the interval is on the claimed side."""
        if self.claimed is None or self.seeds < 2 or not (np.isfinite(self.low) and np.isfinite(self.high)):
            return "unclear"
        above, below = self.low > self.reference, self.high < self.reference
        if not above and not below:
            return "unclear"
        return "supported" if above == (self.claimed == "above") else "contradicted"


def difference(
    name: str,
    first: Group,
    second: Group,
    claimed: Side | None = None,
    *,
    reference: float = 0.0,
) -> Effect:
    """Mean of the first group less mean of the second, and Hedges' g (Hedges 1981) of the two."""
    a, b = _floats(first), _floats(second)
    low, high = bootstrap_interval([a, b], lambda one, other: one.mean(-1) - other.mean(-1))
    return Effect(
        name,
        float(a.mean() - b.mean()),
        low,
        high,
        hedges_g(a, b),
        "difference of means",
        (_named(first), _named(second)),
        claimed,
        reference,
    )


def location(name: str, group: Group, claimed: Side | None = None, *, reference: float = 0.0) -> Effect:
    """Mean of one group against a reference; standardised by the group's own spread, with Hedges' correction."""
    values = _floats(group)
    low, high = bootstrap_interval([values], lambda drawn: drawn.mean(-1))
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    shift = float(values.mean()) - reference
    standardised = shift / spread * _correction(len(values) - 1) if spread > 0 else None
    return Effect(
        name,
        float(values.mean()),
        low,
        high,
        standardised,
        "mean",
        (_named(group),),
        claimed,
        reference,
    )


def rank_difference(name: str, first: Group, second: Group, claimed: Side | None = None) -> Effect:
    """Rank-biserial correlation (Cliff's delta): how much more often the first is larger than smaller, -1 to 1.

    Infinite values are allowed: "never" is later than any epoch.
    """
    a, b = _floats(first), _floats(second)
    low, high = bootstrap_interval([a, b], _rank_biserial)
    return Effect(
        name,
        float(_rank_biserial(a, b)),
        low,
        high,
        None,
        "rank-biserial",
        (_named(first), _named(second)),
        claimed,
    )


def hedges_g(a: Floats, b: Floats) -> float | None:
    """Standardised difference of means with the small-sample correction; None if neither group varies."""
    freedom = len(a) + len(b) - 2
    if min(len(a), len(b)) < 2:
        return None
    pooled = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom
    if not pooled > 0:
        return None
    return float((a.mean() - b.mean()) / np.sqrt(pooled) * _correction(freedom))


def bootstrap_interval(groups: Sequence[Floats], statistic: Callable[..., Floats]) -> tuple[float, float]:
    """The 95 % expanded percentile interval of a statistic of independent groups; (NaN, NaN) for a single seed.

    The same values give the same interval.

    Args:
        groups: one array of values per group, each resampled independently.
        statistic: of one array (draws, n) per group, along the last axis.
    """
    fewest = min(len(group) for group in groups)
    if fewest < 2:
        return np.nan, np.nan
    generator = np.random.default_rng(0)
    drawn = [group[generator.integers(len(group), size=(_DRAWS, len(group)))] for group in groups]
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, fewest - 1) * np.sqrt(fewest / (fewest - 1))
    tail = float(stats.norm.cdf(-quantile))
    low, high = np.quantile(statistic(*drawn), [tail, 1 - tail], method="closest_observation")
    return float(low), float(high)


def judge(effects: Sequence[Effect]) -> tuple[Verdict, str]:
    """The verdict on a claim, the conjunction of its deciding effects; and a short reason."""
    deciding = [effect for effect in effects if effect.decides]
    if not deciding:
        return "unclear", "no effect decides it"
    if min(effect.seeds for effect in deciding) < 2:
        return "unclear", "a single seed has no spread, so it decides nothing"
    counts = {word: sum(effect.verdict == word for effect in deciding) for word in ("supported", "contradicted")}
    supporting = f"{counts['supported']} of {len(deciding)} effects are on the claimed side"
    if counts["supported"] == len(deciding):
        return "supported", supporting
    if counts["contradicted"] and not counts["supported"]:
        return "contradicted", f"{counts['contradicted']} of {len(deciding)} effects are on the other side"
    return "unclear", f"{supporting}, {counts['contradicted']} on the other"


def shown(value: float | None) -> str:
    """A number with three significant digits; "-" if there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.3g}"


def interval(effect: Effect) -> str:
    """The interval of an effect, for tables."""
    return "-" if effect.seeds < 2 else f"{shown(effect.low)} to {shown(effect.high)}"


def _rank_biserial(a: Floats, b: Floats) -> Floats:
    larger, smaller = a[..., :, None] > b[..., None, :], a[..., :, None] < b[..., None, :]
    result: Floats = larger.mean((-2, -1)) - smaller.mean((-2, -1))
    return result


def _correction(freedom: int) -> float:
    return 1 - 3 / (4 * freedom - 1)


def _floats(group: Group) -> Floats:
    values = np.asarray(group[1], dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{group[0]}: expected one value per seed, got an array of shape {values.shape}")
    return values


def _named(group: Group) -> tuple[str, tuple[float, ...]]:
    return group[0], tuple(float(value) for value in group[1])
