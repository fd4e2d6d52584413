"""Statistics of a run's curves: pure functions of the values in metrics.jsonl, in the order of the steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, stats  # type: ignore[import-untyped]

from benchmarks.claims.statistics import Floats

SLOPE_SHARE = 0.8  # the trend covers the last 80 % of the steps
TAIL_SHARE = 0.2  # the last 20 % of the steps count as the end of a run
MEDIAN_WIDTH = 101  # steps; the filter of the WGAN authors' published code
_SLOPE_POINTS = 200  # means of blocks: the slope compares all pairs of points


def change(values: Floats) -> float:
    """How much a curve rises over the last 80 % of its steps, by the Theil-Sen slope (the median over all pairs)."""
    last = values[int(len(values) * (1 - SLOPE_SHARE)) :]
    blocks = np.array([block.mean() for block in np.array_split(last, min(_SLOPE_POINTS, len(last)))])
    if len(blocks) < 2:
        raise ValueError(f"a curve of {len(values)} steps has no slope")
    return float(stats.theilslopes(blocks).slope * (len(blocks) - 1))


def tail_mean(values: Floats) -> float:
    """Mean over the last 20 % of the steps."""
    return float(values[-max(1, round(len(values) * TAIL_SHARE)) :].mean())


def distance_from_half(values: Floats) -> float:
    """Mean distance from 1/2 over the last 20 % of the steps."""
    return tail_mean(np.abs(values - 0.5))


def loss_follows_quality(losses: Floats, steps: Sequence[int], distances: Sequence[float]) -> float:
    """Spearman's correlation of a critic's estimate with a distance at the same steps; 1: they fall together.

    Args:
        losses: of the critic, one per step, from step 1 on; the estimate is minus the loss, median-filtered.
        steps: at which the distances were measured.
        distances: smaller is better.

    Raises:
        ValueError: fewer than three steps, or a step after the last loss.
    """
    if len(steps) < 3 or max(steps) > len(losses):
        raise ValueError(f"{len(steps)} checkpoints up to step {max(steps, default=0)} of {len(losses)}")
    estimate = ndimage.median_filter(-losses, MEDIAN_WIDTH, mode="mirror")
    at = estimate[np.asarray(steps) - 1]
    if np.ptp(at) == 0 or np.ptp(distances) == 0:
        return 0.0  # a constant has no correlation
    return float(stats.spearmanr(at, distances).statistic)


def first_past(epochs: Sequence[float], shares: Sequence[float], threshold: float) -> float:
    """The first epoch at which a share is above the threshold; infinity if there is none."""
    return next((epoch for epoch, share in zip(epochs, shares, strict=True) if share > threshold), np.inf)


def at_time(seconds: Sequence[float], values: Sequence[float], when: float) -> float:
    """A value at a time, by linear interpolation between its measurements.

    Raises:
        ValueError: the time is outside the measurements.
    """
    if not seconds[0] <= when <= seconds[-1] * (1 + 1e-9):
        raise ValueError(f"{when} s is outside {seconds[0]} to {seconds[-1]} s")
    return float(np.interp(when, seconds, values))
