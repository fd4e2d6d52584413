"""Means, deviations and best cells against hand-computed values."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from trainer.progress import Progress
from trainer.sweep.results import Results, cells_csv, print_results, shown_summary, trials_csv


def test_means_and_sample_deviations_are_over_the_seeds_that_finished(results: Results) -> None:
    low, high = results.cells
    found = results.summary(low, "sliced_wasserstein_distance", "end")
    assert found is not None
    assert (found.count, found.mean, found.is_best) == (2, 11.5, False)
    assert found.deviation == pytest.approx(math.sqrt(((10 - 11.5) ** 2 + (13 - 11.5) ** 2) / 1))
    other = results.summary(high, "sliced_wasserstein_distance", "end")
    assert other is not None
    assert (other.count, other.mean, other.deviation, other.is_best) == (1, 11.0, None, True)


def test_the_best_cell_is_by_the_direction_of_the_metric(results: Results) -> None:
    low, high = results.cells
    ends = [results.summary(cell, "recall", "end") for cell in (low, high)]
    assert [found.is_best for found in ends if found] == [False, True]  # 0.5 and 0.9, larger is better
    bests = [results.summary(cell, "sliced_wasserstein_distance", "best") for cell in (low, high)]
    assert [found.mean for found in bests if found] == [7.0, 7.0]
    assert [found.is_best for found in bests if found] == [True, True]  # a tie
    assert results.summary(low, "nonsense", "end") is None


def test_a_moment_shows_the_newest_evaluation_up_to_it(results: Results) -> None:
    low, _ = results.cells
    found = results.summary(low, "sliced_wasserstein_distance", "epoch 1")
    assert found is not None
    assert found.mean == 10.5
    assert results.moments == ["epoch 1"]
    assert [results.trials[0].sample_step(when) for when in ("epoch 1", "end", "step 5", "epoch 3")] == [4, 8, 8, None]


def test_the_csv_files_have_full_precision(results: Results) -> None:
    trials = list(csv.DictReader(io.StringIO(trials_csv(results))))
    assert [float(each["images_per_s"]) for each in trials] == [0.1 + 0.2] * 4
    assert [(each["cell"], each["lr"], each["seed"], each["outcome"], each["run"]) for each in trials][::3] == [
        ("low", "low", "0", "finished", "runs/r"),
        ("high", "high", "1", "diverged", "runs/r"),
    ]
    assert [each["end_sliced_wasserstein_distance"] for each in trials] == ["10.0", "13.0", "11.0", ""]
    assert [each["best_step"] for each in trials] == ["4", "8", "4", "4"]
    cells = list(csv.DictReader(io.StringIO(cells_csv(results))))
    assert {each["when"] for each in cells} == {"end", "best", "epoch 1"}
    assert cells[0]["better"] == "smaller"
    assert float(cells[0]["standard_deviation"]) == pytest.approx(math.sqrt(4.5))


def test_a_summary_is_shown_as_mean_deviation_and_count(results: Results) -> None:
    low, high = results.cells
    name = "sliced_wasserstein_distance"
    assert shown_summary(name, results.summary(low, name, "end")) == "11.50 \N{PLUS-MINUS SIGN} 2.12 (n 2)"
    assert shown_summary(name, results.summary(high, name, "end"), mark=True) == "11.00 (n 1) *"
    assert shown_summary(name, None) == "-"


def test_warnings_are_printed_after_the_tables(results: Results) -> None:
    shown = _printed(_warned(results, 2))
    assert shown[-2:] == [
        "warning: low, seed 0, step 0: it looks bad",
        "warning: low, seed 0, step 1: it looks bad",
    ]


def test_beyond_ten_warnings_the_report_has_the_rest(results: Results) -> None:
    assert _printed(_warned(results, 11))[-1] == "1 more warning: see the report"


def _warned(results: Results, count: int) -> Results:
    first, *others = results.trials
    assert first.record is not None
    warned = replace(first.record, warnings=[(step, "it looks bad") for step in range(count)])
    return replace(results, trials=[replace(first, record=warned), *others])


def _printed(results: Results) -> list[str]:
    output = io.StringIO()
    print_results(results, Progress(Console(file=output, width=140)))
    return output.getvalue().splitlines()
