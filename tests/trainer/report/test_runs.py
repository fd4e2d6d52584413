from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.trainer.report.made_up import CONFIG, record, row
from trainer.config import override
from trainer.report.page import Table, render
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
        ("Resume it:", "python -m trainer --resume 'my run'"),
        ("Export it:", "python -m exporter 'my run'"),
    ]
    assert "real_beside_fake.png is missing" in [picture.missing for picture in detail.pictures]


def test_what_is_unknown_of_a_run_is_left_out_of_its_summary() -> None:
    [line] = run_page([record(images_per_s=None, train_seconds=None)]).lead
    assert line.endswith("512 real images.")


def test_last_and_best_of_a_run_stand_beside_real_images_with_their_standard_errors() -> None:
    floor = EvaluationRow(4, {"sliced_wasserstein_distance": 2.5}, {"real_images": "16"})
    last = replace(row(8, 9.0, 0.5), errors={"sliced_wasserstein_distance": 0.25})
    [table] = run_page([record(row(4, 8.0, 0.5), last, floor=floor)]).tables
    assert table.headings == ["metric", "last (step 8)", "best checkpoint (step 4)", "real images"]
    assert texts(table) == [
        ["SWD (smaller is better)", "9.0 \N{PLUS-MINUS SIGN} 0.2", "8.00", "2.50"],
        ["recall (larger is better)", "0.5000", "0.5000", "-"],
    ]
    assert not any(cell.is_best for each in table.rows for cell in each)  # compared with nothing


def test_runs_are_compared_at_their_last_and_best_evaluations_and_the_best_is_marked() -> None:
    first = record(row(4, 9.0, 0.5), row(8, 10.0, 0.75), name="first")
    second = record(row(8, 9.5, 0.25), name="second")
    page = run_page([first, second, record(name="third")])
    assert page.title == "3 runs compared"
    [table] = page.tables
    assert table.groups == [("", 1), ("SWD (smaller is better)", 2), ("recall (larger is better)", 2)]
    assert table.headings == ["run", "last", "best", "last", "best"]
    assert texts(table) == [
        ["first (steps 8, 4)", "10.00", "9.00", "0.7500", "0.5000"],
        ["second (steps 8, 8)", "9.50", "9.50", "0.2500", "0.2500"],
        ["third: no evaluation", "-"],
    ]
    marks = [[cell.is_best for cell in each[1:]] for each in table.rows]
    assert marks == [[False, True, True, True], [True, False, False, False], [False]]


@pytest.mark.parametrize("entry", ["split", "image_size", "real_images", "fake_images"])
def test_no_value_of_another_protocol_is_best(entry: str) -> None:
    first, second = (record(row(8, swd, 0.5, **{entry: str(swd)}), name=str(swd)) for swd in (1.0, 2.0))
    [table] = run_page([first, second]).tables
    assert not any(cell.is_best for each in table.rows for cell in each)
    assert f"{entry.replace('_', ' ')} differs (1.0, 2.0)" in table.note


def test_other_seeds_and_classifiers_leave_what_does_not_depend_on_them_comparable() -> None:
    runs = [record(row(8, 9.0, 0.5, seed=text, feature_sha256=text), name=text) for text in "ab"]
    [table] = run_page(runs).tables
    assert [[cell.is_best for cell in each[1:]] for each in table.rows] == [[True, True, False, False]] * 2


def test_the_best_evaluation_of_a_run_has_the_protocol_of_its_last() -> None:
    run = record(row(2, 1.0, 0.5, image_size="8"), row(4, 5.0, 0.5, image_size="16"), row(8, 6.0, 0.5, image_size="16"))
    assert run.best is not None
    assert run.best.step == 4


def test_references_of_several_runs_stand_below_them_once_if_they_are_equal() -> None:
    floors = [EvaluationRow(4, {"sliced_wasserstein_distance": value}, {}) for value in (2.5, 2.5, 3.0)]
    runs = [record(row(8, 9.0, 0.5), name=name, floor=floor) for name, floor in zip("abc", floors, strict=True)]
    [same] = run_page(runs[:2]).tables
    assert texts(same)[2:] == [["reference", "2.50", "-"]]
    [different] = run_page(runs).tables
    assert texts(different)[3:] == [["reference of a, b", "2.50", "-"], ["reference of c", "3.00", "-"]]


def test_the_settings_that_differ_come_first_without_the_places_of_files() -> None:
    one, other = (
        record(row(8, 9.0, 0.5), name=name, config=override(CONFIG, {"seed": seed, "batch_size": batch} | data))
        for name, seed, batch, data in (
            ("one", 0, 64, {"data_root": "/home/me/data"}),
            ("other", 1, 32, {"dataset": "folder:/home/me/pictures"}),
        )
    )
    page = run_page([one, other])
    table, _ = page.tables
    assert table.title == "Settings that differ"
    assert table.headings == ["setting", "one", "other"]
    assert texts(table) == [["dataset", "digits", "folder:pictures"], ["batch_size", "64", "32"]]
    assert "/home/me" not in render(page)


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
