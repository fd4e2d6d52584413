"""Warnings of the watch for made-up rows of every kind of failure, and for rows of healthy runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.conftest import made_up_images, small_config
from tests.trainer.tiny_trainings import CPU
from trainer.config import override
from trainer.presets import PRESETS
from trainer.progress import Progress
from trainer.runs.collapse import (
    ALIKE_MEASUREMENTS,
    ALIKE_SPREAD,
    DIVERSE_SPREAD,
    LEARNING_STEPS,
    LONG_STEPS,
    Notice,
    Watch,
    sample_spread,
    spread,
)
from trainer.training.base import Training
from trainer.training.kinds import load_with_config, new_training

BATCH = 64
Rows = list[dict[str, Any]]


def steps(count: int, *, start: int = 1, **values: float | None) -> Rows:
    """Step rows with equal values, except for moving losses."""
    return [
        {
            "kind": "step",
            "step": step,
            "images": step * BATCH,
            "d_loss": 1.0 + 0.1 * (step % 2),
            "g_loss": 2.0 - 0.1 * (step % 3),
            "d_accuracy": 0.8,
        }
        | values
        for step in range(start, start + count)
    ]


def samples(step: int, share: float | None) -> dict[str, Any]:
    return {"kind": "samples", "step": step, "images": step * BATCH, "sample_spread": share}


def said(rows: Iterable[dict[str, Any]], images_per_epoch: int = 1000) -> list[tuple[str, int]]:
    watch = Watch(images_per_epoch)
    return [(notice.name, notice.step) for row in rows for notice in watch.see(row)]


def test_a_discriminator_that_is_always_right_causes_one_warning_after_a_long_time() -> None:
    assert said(steps(LONG_STEPS - 1, d_accuracy=1.0)) == []
    assert said(steps(4 * LONG_STEPS, d_accuracy=1.0)) == [("discriminator-wins", LONG_STEPS)]


def test_a_winning_discriminator_causes_no_warning_within_the_first_epoch() -> None:
    epoch = 2 * LONG_STEPS * BATCH
    assert said(steps(2 * LONG_STEPS, d_accuracy=1.0), epoch) == []
    assert said(steps(3 * LONG_STEPS, d_accuracy=1.0), epoch) == [("discriminator-wins", 2 * LONG_STEPS + 1)]


def test_a_discriminator_that_is_sometimes_wrong_has_not_won() -> None:
    rows = steps(6 * LONG_STEPS, d_accuracy=1.0)
    for row in rows[:: LONG_STEPS // 2]:
        row["d_accuracy"] = 0.4
    assert said(rows) == []


def test_a_new_episode_causes_a_new_warning_but_a_short_doubt_does_not() -> None:
    def then(doubt: float, doubting_steps: int) -> list[tuple[str, int]]:
        win = steps(2 * LONG_STEPS, d_accuracy=1.0)
        doubts = steps(doubting_steps, start=2 * LONG_STEPS + 1, d_accuracy=doubt)
        again = steps(2 * LONG_STEPS, start=2 * LONG_STEPS + doubting_steps + 1, d_accuracy=1.0)
        return said([*win, *doubts, *again])

    assert len(then(0.98, 100)) == 1
    assert len(then(0.6, 100)) == 2


def test_a_critic_has_no_accuracy_and_never_wins() -> None:
    assert said(steps(4 * LONG_STEPS, d_accuracy=None)) == []


def trained(*shares: float | None, generator_steps: int = LONG_STEPS) -> list[tuple[str, int]]:
    """The warnings for sample grids measured every ten steps, after `generator_steps` generator updates."""
    rows = steps(generator_steps)
    for index, share in enumerate(shares):  # the first of them comes after the last of these steps
        start = generator_steps + 10 * index
        rows += [samples(start, share), *steps(10, start=start + 1)]
    return said(rows)


def test_samples_that_stay_alike_cause_one_warning() -> None:
    collapsed = ALIKE_SPREAD / 2
    assert trained(*[collapsed] * (ALIKE_MEASUREMENTS - 1), 0.9, collapsed) == []
    warnings = [("samples-alike", LONG_STEPS + 10 * ALIKE_MEASUREMENTS)]
    assert trained(0.9, *[collapsed] * 9) == warnings
    assert trained(0.9, *[collapsed] * 3, (ALIKE_SPREAD + DIVERSE_SPREAD) / 2, *[collapsed] * 3) == warnings
    assert len(trained(0.9, *[collapsed] * 3, 0.9, *[collapsed] * 3)) == 2


def test_samples_that_cannot_be_compared_cause_no_warning() -> None:
    assert trained(0.9, *[None] * 9) == []


def test_a_generator_without_diverse_samples_yet_has_more_time() -> None:
    assert trained(*[0.001] * 9, generator_steps=LEARNING_STEPS - 100) == []
    warnings = [("samples-alike", LEARNING_STEPS + 10 * (ALIKE_MEASUREMENTS - 1))]
    assert trained(*[0.001] * 9, generator_steps=LEARNING_STEPS) == warnings
    rows = steps(2 * LEARNING_STEPS, g_loss=None)  # a critic's warm start
    assert said([*rows, *[samples(2 * LEARNING_STEPS, 0.001)] * 9]) == []


def test_constant_losses_cause_one_warning_and_another_after_they_have_moved() -> None:
    still: dict[str, Any] = {"d_loss": 1.3862944, "g_loss": 0.6931472}
    name = "losses-stand-still"
    assert said(steps(LONG_STEPS - 1, **still)) == []
    assert said(steps(3 * LONG_STEPS, **still)) == [(name, LONG_STEPS)]
    moving = steps(1, start=LONG_STEPS + 1)
    again = steps(2 * LONG_STEPS, start=LONG_STEPS + 2, **still)
    assert [what for what, _ in said([*steps(LONG_STEPS, **still), *moving, *again])] == [name, name]


@pytest.mark.parametrize("scale", [1.0, 1e-6])  # a clipped critic's losses are tiny
def test_a_slow_drift_of_one_loss_counts_as_a_change(scale: float) -> None:
    rows = steps(3 * LONG_STEPS, g_loss=0.5)
    for row in rows:
        row["d_loss"] = scale * (1 + 1e-7 * row["step"])
    assert said(rows) == []


def test_constant_losses_are_found_if_the_generator_is_updated_only_sometimes() -> None:
    rows = steps(LONG_STEPS, d_loss=10.0, g_loss=0.0)
    for row in rows:
        if row["step"] % 5:
            row["g_loss"] = None
    assert said(rows) == [("losses-stand-still", LONG_STEPS)]


number = st.one_of(st.none(), st.floats(-1e3, 1e3), st.sampled_from([0.0, 0.5, 0.991, 1.0]))
# Long stretches of equal rows, so that some cause warnings.
stretches = st.lists(
    st.tuples(st.integers(1, 700), number, number, number, st.one_of(st.none(), st.floats(0, 2))), max_size=8
)


Part = tuple[int, float | None, float | None, float | None, float | None]


def rows_of(
    parts: list[Part],
) -> Iterator[dict[str, Any]]:
    start = 1
    for count, d_loss, g_loss, accuracy, share in parts:
        yield from steps(count, start=start, d_loss=d_loss, g_loss=g_loss, d_accuracy=accuracy)
        start += count
        yield samples(start - 1, share)
        yield {"kind": "evaluation", "step": start - 1, "sliced_wasserstein_distance": 3.0}


@given(stretches, st.integers(1, 10**5), st.data())
def test_a_watch_that_reads_its_rows_again_gives_the_same_warnings_afterwards(
    parts: list[Part],
    images_per_epoch: int,
    data: st.DataObject,
) -> None:
    rows = list(rows_of(parts))
    cut = data.draw(st.integers(0, len(rows)))
    whole, first, second = (Watch(images_per_epoch) for _ in range(3))
    expected = [notice for row in rows for notice in whole.see(row)]
    written = []
    for row in rows[:cut]:
        written.append(row)
        written += [{"kind": "warning", "step": notice.step, "name": notice.name} for notice in first.see(row)]
    replayed = [notice for row in map(json.loads, map(json.dumps, written)) for notice in second.see(row)]
    assert [*replayed, *(notice for row in rows[cut:] for notice in second.see(row))] == expected


@given(stretches, st.integers(1, 10**5))
def test_no_warning_repeats_within_a_long_time_and_each_is_one_line(parts: list[Part], images_per_epoch: int) -> None:
    watch = Watch(images_per_epoch)
    warnings = [notice for row in rows_of(parts) for notice in watch.see(row)]
    for name in ("discriminator-wins", "losses-stand-still"):
        at = [notice.step for notice in warnings if notice.name == name]
        assert all(later - earlier >= LONG_STEPS for earlier, later in itertools.pairwise([0, *at]))
    assert all("try a" in notice.text and "\n" not in notice.text for notice in warnings)


@pytest.mark.parametrize("odd", ["many", None, True, [1.0], float("inf")])
def test_values_of_a_damaged_row_are_ignored(odd: object) -> None:
    rows = [row | {"d_accuracy": odd, "d_loss": odd, "images": odd} for row in steps(LONG_STEPS + 5, d_accuracy=1.0)]
    assert all(isinstance(notice, Notice) for row in rows for notice in Watch(10).see(row))


def test_the_spread_is_the_mean_deviation_of_the_pixels() -> None:
    images = torch.tensor([[0.0, 2.0, 5.0], [4.0, 2.0, 5.0]]).reshape(2, 1, 1, 3)
    assert spread(images) == pytest.approx((2.0 + 0.0 + 0.0) / 3)


def test_the_sample_spread_is_relative_to_real_images() -> None:
    reals = torch.randn(64, 3, 8, 8)
    assert sample_spread(reals, reals) == pytest.approx(1.0)
    assert sample_spread(0.25 * reals + 3, reals) == pytest.approx(0.25)
    assert sample_spread(reals[:1].expand(64, -1, -1, -1), reals) == 0.0


@pytest.mark.parametrize(("fakes", "reals"), [(2, 1), (1, 2), (0, 2)])
def test_a_single_image_has_no_spread(fakes: int, reals: int) -> None:
    assert sample_spread(torch.randn(fakes, 1, 4, 4), torch.randn(reals, 1, 4, 4)) is None


def test_equal_real_images_give_no_sample_spread() -> None:
    assert sample_spread(torch.randn(4, 1, 4, 4), torch.ones(4, 1, 4, 4)) is None
    assert sample_spread(torch.full((4, 1, 4, 4), torch.nan), torch.randn(4, 1, 4, 4)) is None


def real_rows(training: Training, steps: int, measured_every: int) -> Iterator[dict[str, Any]]:
    """The step rows of a run, without the loop."""
    for _ in range(steps):
        measured = training.train_step(0.0)
        at = {"step": training.state.step, "images": training.state.images_seen}
        yield (
            at | {"kind": "step"} | {name: None if value is None else value.item() for name, value in measured.items()}
        )
        if training.state.step % measured_every == 0:
            yield at | {"kind": "samples", "sample_spread": training.sample_spread()}


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_the_losses_of_every_preset_change_within_five_steps(
    model: str, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.runs.collapse.LONG_STEPS", 5)
    config = small_config(model, preset)
    training = new_training(config, made_up_images(config), CPU)
    assert "losses-stand-still" not in [name for name, _ in said(real_rows(training, 8, 4), 10**9)]


def test_a_healthy_run_causes_no_warning(quiet: Progress) -> None:
    preset = override(PRESETS["gan", "gan-digits"].config, {"network.width": 0.1, "device": "cpu"})
    config, data = load_with_config(preset, quiet)
    training = new_training(config, data, CPU)
    watch, shares = Watch(training.images_per_epoch), []
    for row in real_rows(training, LONG_STEPS + 100, 100):
        assert watch.see(row) == []
        shares += [row["sample_spread"]] if row["kind"] == "samples" else []
    assert max(shares) > DIVERSE_SPREAD  # so that alike samples would cause a warning


@pytest.mark.parametrize("model", ["dcgan", "pggan", "cyclegan"])
def test_only_a_generator_that_ignores_its_input_has_no_spread(model: str) -> None:
    config = small_config(model, next(preset for owner, preset in PRESETS if owner == model))
    training = new_training(config, made_up_images(config), CPU)
    with torch.no_grad():
        for network in training.state.networks.values():
            for name, parameter in network.named_parameters():
                if parameter.ndim > 1 and not name.startswith("discriminator"):
                    parameter.mul_(20)
        assert (training.sample_spread() or 0.0) > ALIKE_SPREAD
        for network in training.state.networks.values():
            for parameter in network.parameters():
                parameter.zero_()
    assert training.sample_spread() == pytest.approx(0.0, abs=1e-6)
