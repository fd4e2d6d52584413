from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.trainer.report.made_up import CONFIG, row
from trainer.progress import Progress
from trainer.report.page import Table, TableCell
from trainer.sweep.folder import SweepFolder
from trainer.sweep.grid import Cell
from trainer.sweep.results import Results, TrialResult
from trainer.sweep.spec import Spec
from trainer.sweep.sweep_page import sweep_page, write_report

pytestmark = pytest.mark.usefixtures("no_charts")
LOW = [("11.50", "2.12"), ("7.00", "8.49"), ("0.5000", "0.3536"), ("0.6250", "0.1768")]
SWD, RECALL = "SWD (smaller is better)", "recall (larger is better)"


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def best(table: Table) -> list[list[str]]:
    """The headings of the marked cells, by row."""
    return [[name for name, cell in zip(table.headings, row, strict=True) if cell.is_best] for row in table.rows]


def test_the_lead_says_what_was_trained_and_how_to_run_it_again(results: Results) -> None:
    page = sweep_page(results)
    assert (page.title, page.label) == ("t", "")
    assert page.lead == ["2 cells, 2 seeds (0, 1), trained on digits at 32x32.", "To run or continue the sweep: again"]
    quick = sweep_page(
        replace(results, spec=msgspec.structs.replace(results.spec, is_quick=True, reproduces="Table 1."))
    )
    assert quick.label.startswith("Quick form")
    assert quick.lead[0] == "Table 1."


def test_the_metrics_of_cells_are_compared_at_the_end_the_best_and_each_moment(results: Results) -> None:
    table, moments, _ = sweep_page(results).tables
    assert table.groups == [("", 1), (SWD, 2), (RECALL, 2)]
    assert table.headings == ["cell", "end", "best", "end", "best"]
    assert texts(table) == [
        ["low", *(f"{mean} \N{PLUS-MINUS SIGN} {spread}" for mean, spread in LOW)],
        ["high", "11.00 (n 1)", "7.00 \N{PLUS-MINUS SIGN} 2.83", "0.9000 (n 1)", "0.1000 \N{PLUS-MINUS SIGN} 0.0000"],
    ]
    assert [[cell.is_best for cell in each[1:]] for each in table.rows] == [
        [False, True, False, True],  # a tie of 7.00
        [True, True, True, False],
    ]
    assert "sample standard deviation" in table.note
    assert moments.headings == ["cell", "epoch 1", "epoch 1"]
    assert [row[0] for row in texts(moments)] == ["low", "high"]


def test_cells_of_other_protocols_are_not_compared(results: Results) -> None:
    trials = [
        replace(trial, record=replace(trial.record, evaluations=[row(8, 5.0, 0.5, image_size=trial.cell.name)]))
        for trial in results.trials
        if trial.record
    ]
    table, *_ = sweep_page(replace(results, trials=trials)).tables
    assert best(table) == [[], []]


def test_collapsed_trials_are_flagged_everywhere(results: Results) -> None:
    first, *others = results.trials
    assert first.record
    collapsed = replace(first, record=replace(first.record, collapse="all alike"))
    page = sweep_page(replace(results, trials=[collapsed, *others]))
    assert "Collapsed: low (seed 0). Their metrics count in the means below." in page.lead
    metrics, *_, trials = page.tables
    assert metrics.rows[0][0] == TableCell("low (1 of 2 collapsed)", is_warning=True)
    assert [each[2] for each in trials.rows[:2]] == [
        TableCell("finished, collapsed", is_warning=True),
        TableCell("finished"),
    ]
    assert page.details[0].warnings == ["seed 0: collapsed: all alike"]


def test_every_trial_is_listed_with_its_outcome(results: Results) -> None:
    *_, table = sweep_page(results).tables
    assert texts(table) == [
        ["low", "0", "finished", "8", "512", "0.3", "3", "0"],
        ["low", "1", "finished", "8", "512", "0.3", "3", "0"],
        ["high", "0", "finished", "8", "512", "0.3", "3", "0"],
        ["high", "1", "diverged: NaN", "8", "512", "0.3", "3", "0"],
    ]


def test_samples_of_the_first_seed_are_shown_side_by_side_at_each_moment(results: Results) -> None:
    others = [replace(trial, record=None) if trial.seed else trial for trial in results.trials]
    first, last = sweep_page(replace(results, trials=others)).strips
    assert (first.title, last.title, last.note) == ("At epoch 1", "At the end", "Seed 0.")
    assert [picture.caption for picture in first.pictures] == ["low (step 4)", "high (step 4)"]
    assert [picture.missing for picture in last.pictures] == ["8.png is missing"] * 2


def test_a_cell_has_its_failures_and_the_commands_of_its_first_seed(results: Results) -> None:
    low, high = sweep_page(results).details
    assert (low.title, high.title) == ("low", "high")
    assert low.warnings == []
    assert high.warnings == ["seed 1: diverged: NaN"]
    assert low.commands[0] == (
        "Train only its first seed:",
        "python -m trainer --model dcgan --preset dcgan-digits --dataset digits --precision fp32"
        " --best-by sliced_wasserstein_distance",
    )
    assert low.commands[1] == ("Export seed 0:", "python -m exporter out/runs/r")


def test_a_sweep_that_was_not_begun_has_a_page_and_tables(tmp_path: Path, quiet: Progress) -> None:
    spec = Spec(title="t", seeds=[0], base={"model": "dcgan"}, axes={})
    cell = Cell("all", "all", (), {}, CONFIG)
    page = sweep_page(Results(spec, [cell], [TrialResult(cell, 0, "not run", "", None)], tmp_path, "again"))
    assert [texts(table) for table in page.tables] == [[["all", "0", "not run", *"-----"]]]
    assert [picture.missing for picture in page.strips[0].pictures] == ["not reached"]
    assert page.details == []
    write_report(SweepFolder(tmp_path), spec, [cell], ["python", "-m", "trainer.sweep", "my spec.toml"], quiet)
    assert "python -m trainer.sweep &#39;my spec.toml&#39;" in (tmp_path / "report.html").read_text()
    [trial] = csv.DictReader(io.StringIO((tmp_path / "trials.csv").read_text()))
    assert (trial["cell"], trial["seed"]) == ("all", "0")
    assert (tmp_path / "cells.csv").is_file()
