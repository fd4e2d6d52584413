from __future__ import annotations

import math

from tests.trainer.conftest import small_config
from trainer.runs.run_log import curves_of_evaluation, curves_of_steps, public_settings


def test_a_point_is_the_mean_of_the_measured_values() -> None:
    rows = [
        {"kind": "step", "step": 1, "epoch": 1, "images": 4, "d_loss": 1.0, "g_loss": None, "d_accuracy": None},
        {"kind": "step", "step": 2, "epoch": 1, "images": 8, "d_loss": 2.0, "g_loss": 5.0, "d_accuracy": None},
    ]
    assert curves_of_steps(rows) == {"loss/d_loss": 1.5, "loss/g_loss": 5.0, "training/epoch": 1.0}


def test_each_measurement_has_its_chart() -> None:
    names = ["cycle_loss", "d_real", "d_fake", "d_fake_after", "d_accuracy", "images_per_s", "process_gb", "alpha"]
    assert list(curves_of_steps([dict.fromkeys(names, 1.0)])) == [
        "loss/cycle_loss",
        "score/d_real",
        "score/d_fake",
        "score/d_fake_after",
        "accuracy/d_accuracy",
        "speed/images_per_s",
        "memory/process_gb",
        "training/alpha",
    ]


def test_without_rows_there_are_no_points() -> None:
    assert curves_of_steps([]) == {}


def test_a_metric_that_is_not_finite_has_no_point() -> None:
    assert curves_of_evaluation({"a": 1, "b": math.inf, "c": None, "d": math.nan}, {}) == {"evaluation/a": 1.0}


def test_a_metric_of_real_images_is_a_curve_beside_that_of_the_samples() -> None:
    assert curves_of_evaluation({"a": 1, "b": 2}, {"a": 0.5, "step": 7}) == {
        "evaluation/a": 1.0,
        "evaluation/b": 2.0,
        "floor/a": 0.5,
    }


def test_settings_for_others_hold_no_paths() -> None:
    places = {"dataset": "folder:/home/me/pictures", "data_root": "/home/me/data", "init_from": "/home/me/runs/0001"}
    settings = public_settings(small_config("dcgan", "dcgan-digits", **places))
    assert (settings["dataset"], settings["init_from"]) == ("folder", "0001")
    assert "/home/me" not in str(settings)
