from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.claims.curves import at_time, change, distance_from_half, first_past, loss_follows_quality, tail_mean


@pytest.mark.parametrize("steps", [20, 1000, 1503])
@pytest.mark.parametrize("slope", [0.01, 0.0, -0.01])
def test_a_line_changes_by_its_slope(steps: int, slope: float) -> None:
    values = np.linspace(3, 3 + slope * (steps - 1), steps)
    assert change(values) == pytest.approx(slope * 0.8 * steps, rel=0.1, abs=1e-9)


def test_the_first_fifth_and_outliers_do_not_count() -> None:
    values = np.concatenate([np.linspace(100, 1, 200), np.linspace(1, 2, 800)])
    values[500:510] = 1e4
    assert change(values) == pytest.approx(1, abs=0.1)


def test_one_step_has_no_slope() -> None:
    with pytest.raises(ValueError, match="no slope"):
        change(np.array([1.0]))


def test_the_end_is_the_last_fifth() -> None:
    assert tail_mean(np.array([9.0] * 80 + [1.0] * 20)) == 1.0
    assert tail_mean(np.array([7.0])) == 7.0


def test_distances_on_both_sides_of_half_do_not_cancel() -> None:
    assert distance_from_half(np.array([0.2, 0.8] * 50)) == pytest.approx(0.3)


def test_a_loss_that_falls_with_the_distance_follows_quality() -> None:
    steps = list(range(100, 1001, 100))
    losses = -np.linspace(3, 1, 1000) + np.random.default_rng(0).normal(0, 0.5, 1000)
    falling = list(np.linspace(90, 10, 10))
    assert loss_follows_quality(losses, steps, falling) > 0.9
    assert loss_follows_quality(losses, steps, falling[::-1]) < -0.9
    assert loss_follows_quality(np.full(1000, -1.0), steps, falling) == 0.0


def test_single_spikes_are_filtered_away() -> None:
    steps = list(range(100, 1001, 100))
    losses = -np.linspace(3, 1, 1000)
    losses[np.array(steps) - 1] = np.random.default_rng(0).normal(0, 50, 10)
    assert loss_follows_quality(losses, steps, list(np.linspace(90, 10, 10))) == pytest.approx(1.0)


@pytest.mark.parametrize("steps", [[1, 2], [1, 2, 11]])
def test_too_few_checkpoints_or_losses_are_refused(steps: list[int]) -> None:
    with pytest.raises(ValueError, match="checkpoints"):
        loss_follows_quality(np.zeros(10), steps, [1.0] * len(steps))


def test_first_past_returns_the_first_epoch_above_the_threshold() -> None:
    assert first_past([1, 2, 5], [0.5, 0.6, 0.9], 0.5) == 2
    assert first_past([1, 2], [0.1, 0.2], 0.5) == math.inf


def test_values_are_interpolated_linearly_in_time() -> None:
    assert at_time([1.0, 3.0], [10.0, 20.0], 2.0) == pytest.approx(15.0)
    with pytest.raises(ValueError, match="outside"):
        at_time([1.0, 3.0], [10.0, 20.0], 4.0)
