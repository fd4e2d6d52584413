from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.trainer.report.made_up import record, row
from trainer.report.page import Table
from trainer.report.record import EvaluationRow, RunRecord
from trainer.report.runs import SHOWN_MOMENTS, run_page

pytestmark = pytest.mark.usefixtures("no_charts")


@pytest.fixture
def pictured(tmp_path: Path) -> RunRecord:
    """A run of 20 steps with a sample grid of each."""
    samples = {step: tmp_path / f"{step}.png" for step in range(1, 21)}
    for path in samples.values():
        Image.new("L", (2, 2)).save(path)
    return record(samples=samples)


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in each] for each in table.rows]


def test_the_page_of_one_run_has_its_summary_settings_and_commands(tmp_path: Path) -> None:
    page = run_page([record(path=tmp_path / "my run", warnings=[(3, "it has collapsed")], more_warnings=2)])
    assert page.title == "Run r"
    assert page.lead == [
        "r: dcgan (dcgan-digits) on digits, seed 0; 8 steps of 64, 512 real images, 0.3 images/s, 3 s of training."
    ]
    assert (page.tables, page.charts) == ([], [])
    [detail] = page.details
    assert detail.warnings == ["r, step 3: it has collapsed", "r: 2 more warnings"]
    assert ("batch_size", "64") in detail.settings
    assert detail.commands[1:] == [
        ("Resume it:", f"python -m trainer --resume '{tmp_path / 'my run'}'"),
        ("Export it:", f"python -m exporter '{tmp_path / 'my run'}'"),
    ]
    assert "real_beside_fake.png is missing" in [picture.missing for picture in detail.pictures]


def test_what_is_unknown_of_a_run_is_left_out_of_its_summary() -> None:
    [line] = run_page([record(images_per_s=None, train_seconds=None)]).lead
    assert line.endswith("512 real images.")


def test_real_images_stand_below_the_evaluations() -> None:
    floor = EvaluationRow(4, {"sliced_wasserstein_distance": 2.5}, {"real_images": "16"})
    [table] = run_page([record(row(4, 9.0, 0.5), floor=floor)]).tables
    assert texts(table)[-1] == ["r: 16 real images and as many others", "2.50", "-"]


def test_runs_are_compared_at_their_last_and_best_evaluations_and_the_best_is_marked() -> None:
    first = record(row(4, 9.0, 0.5, split="train"), row(8, 10.0, 0.75, split="train"), name="first")
    second = record(row(8, 9.5, 0.25, split="test"), name="second")
    page = run_page([first, second, record(name="third")])
    assert page.title == "3 runs compared"
    [table] = page.tables
    assert table.headings == ["run", "SWD (smaller is better)", "recall (larger is better)"]
    assert texts(table) == [
        ["first, last (step 8)", "10.00", "0.7500"],
        ["second, last (step 8)", "9.50", "0.2500"],
        ["third: no evaluation", "-", "-"],
        ["first, best (step 4)", "9.00", "0.5000"],
        ["second, best (step 8)", "9.50", "0.2500"],
        ["third: no evaluation", "-", "-"],
    ]
    marks = [[cell.is_best for cell in each[1:]] for each in table.rows]
    assert marks == [[False, True], [True, False], [False] * 2, [True, True], [False] * 2, [False] * 2]
    assert "split differs (train, test)" in table.note
    assert not any(cell.is_best for each in run_page([first]).tables[0].rows for cell in each)  # compared with nothing


def test_the_samples_of_one_run_are_spread_over_its_time(pictured: RunRecord) -> None:
    [strip] = run_page([pictured]).strips
    captions = [picture.caption for picture in strip.pictures]
    assert len(captions) == SHOWN_MOMENTS
    assert (captions[0], captions[-1]) == ("step 1", "step 20")
    [few] = run_page([replace(pictured, samples=dict(list(pictured.samples.items())[:1]))]).strips
    assert [picture.caption for picture in few.pictures] == ["step 1"]
    [none] = run_page([replace(pictured, samples={})]).strips
    assert [picture.missing for picture in none.pictures] == ["no samples yet"]


def test_the_samples_of_several_runs_stand_side_by_side_at_shares_of_their_steps(pictured: RunRecord) -> None:
    begun = replace(pictured, name="begun", samples={})
    strips = run_page([pictured, begun]).strips
    assert [strip.title for strip in strips] == [
        *(f"After {share}% of the steps" for share in (10, 25, 50)),
        "At the end",
    ]
    assert [strip.pictures[0].caption for strip in strips] == [f"r, step {step}" for step in (2, 5, 10, 20)]
    assert all(strip.pictures[0].uri for strip in strips)
    assert {(strip.pictures[1].caption, strip.pictures[1].missing) for strip in strips} == {("begun", "not reached")}
