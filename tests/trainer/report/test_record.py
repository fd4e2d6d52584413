"""What a report reads from a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.report.record import number, read_record


def add(run: Path, **row: object) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


@pytest.fixture
def bare(own_run: Path) -> Path:
    """A run without rows."""
    (own_run / "metrics.jsonl").write_text("")
    return own_run


def test_curves_metrics_and_protocol_are_separated(bare: Path) -> None:
    add(bare, kind="step", step=1, epoch=1, images=4, d_loss=0.5, g_loss=None)
    add(bare, kind="step", step=2, epoch=1, images=8, d_loss=0.25, g_loss=2, flag="x")
    add(bare, kind="evaluation", step=2, ms_ssim=0.25, real_images=16, levels=[1.0, None], split="train")
    add(bare, kind="samples", step=2, sample_spread=0.5)
    record = read_record(bare, "it")
    assert (record.name, record.steps, record.images) == ("it", 2, 8)
    assert record.curves["d_loss"].values.tolist() == [0.5, 0.25]
    assert record.curves["g_loss"].steps.tolist() == [2]
    assert "flag" not in record.curves
    (row,) = record.evaluations
    assert row.metrics == {"ms_ssim": 0.25}
    assert row.protocol == {"real_images": "16", "levels": "1, None", "split": "train"}


def test_the_floor_is_that_of_the_last_image_size(bare: Path) -> None:
    assert read_record(bare).floor is None
    add(bare, kind="floor", step=1, ms_ssim=0.3, image_size=8)
    add(bare, kind="floor", step=2, ms_ssim=0.25, image_size=16)
    floor = read_record(bare).floor
    assert floor is not None
    assert (floor.metrics, floor.protocol) == ({"ms_ssim": 0.25}, {"image_size": "16"})


@pytest.mark.parametrize(("best_by", "best_step"), [("sliced_wasserstein_distance", 3), ("recall", 2)])
def test_the_best_evaluation_is_by_the_choosing_metric(bare: Path, best_by: str, best_step: int) -> None:
    config = bare / "config.json"
    config.write_text(config.read_text().replace('"best_by": ""', f'"best_by": "{best_by}"'))
    add(bare, kind="evaluation", step=1, sliced_wasserstein_distance=1.0, recall=0.9, image_size=8)  # smaller images
    add(bare, kind="evaluation", step=2, sliced_wasserstein_distance=9.0, recall=0.8, image_size=16)
    add(bare, kind="evaluation", step=3, sliced_wasserstein_distance=5.0, recall=0.7, image_size=16)
    add(bare, kind="evaluation", step=4, sliced_wasserstein_distance=6.0, recall=0.7, image_size=16)
    record = read_record(bare)
    assert record.best is not None
    assert record.last is not None
    assert (record.best.step, record.last.step) == (best_step, 4)


def test_the_sample_at_the_end_of_an_epoch_is_found_if_its_step_belongs_to_the_next(bare: Path) -> None:
    # Epochs of 10 images in batches of 4: the first ends during step 3, the second at the end of step 5.
    for step in range(1, 7):
        add(bare, kind="step", step=step, epoch=(step * 4 - 1) // 10 + 1, images=step * 4)
    for path in (bare / "samples").iterdir():
        path.unlink()
    for step in (3, 5, 6):
        (bare / "samples" / f"step-{step:08d}.png").touch()
    record = read_record(bare)
    assert [record.sample_at_epoch(epoch) for epoch in (1, 2, 3, 4)] == [3, 5, 6, None]
    assert [record.sample_at_step(step) for step in (1, 3, 4, 6, 7)] == [3, 3, 5, 6, None]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(1, 1.0), (0.5, 0.5), (True, None), (None, None), ("1", None), ([1.0], None), (10**400, None), (1e999, None)],
)
def test_numbers_in_rows_are_finite_or_none(value: object, wanted: float | None) -> None:
    assert number(value) == wanted


def test_standard_errors_are_no_part_of_the_protocol(bare: Path) -> None:
    add(bare, kind="evaluation", step=2, ms_ssim=0.25, ms_ssim_standard_error=0.01, recall_standard_error=None)
    (row,) = read_record(bare).evaluations
    assert (row.errors, row.protocol) == ({"ms_ssim": 0.01}, {})


def test_a_run_whose_samples_are_more_alike_than_real_images_has_collapsed(bare: Path) -> None:
    add(bare, kind="evaluation", step=1, ms_ssim=0.2, ms_ssim_real=0.15)
    assert read_record(bare).collapse == ""
    add(bare, kind="evaluation", step=2, ms_ssim=0.956, ms_ssim_real=0.15)  # without a warning, as of older versions
    assert "MS-SSIM 0.956" in read_record(bare).collapse


def test_a_collapse_ends_when_the_samples_are_diverse_again(bare: Path) -> None:
    add(bare, kind="warning", step=1, name="samples-alike", text="all alike")
    assert read_record(bare).collapse == "all alike"
    add(bare, kind="samples", step=2, sample_spread=0.15)
    assert read_record(bare).collapse == "all alike"
    add(bare, kind="samples", step=3, sample_spread=0.5)
    assert read_record(bare).collapse == ""


def test_places_on_the_axes_follow_the_log(bare: Path) -> None:
    for step in (1, 2, 3):
        add(bare, kind="step", step=step, epoch=1, images=60 * step, images_per_s=2.0)
    record = read_record(bare)
    assert record.places([1, 3], "steps").tolist() == [1, 3]
    assert record.places([1, 3], "images").tolist() == [60, 180]
    assert record.places([1, 3], "time").tolist() == [0.5, 1.5]  # minutes
