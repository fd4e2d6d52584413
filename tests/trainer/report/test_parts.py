"""How pages show metrics."""

from __future__ import annotations

from trainer.report.parts import explanations, heading_of, shown_metric


def test_a_heading_says_which_way_is_better() -> None:
    assert heading_of("recall") == "recall (larger is better)"
    assert heading_of("ms_ssim") == "MS-SSIM (as among real images)"
    assert heading_of("paired_l1_unchanged") == "L1 unchanged"
    assert heading_of("nonsense") == "nonsense"


def test_a_value_has_the_decimals_of_its_metric() -> None:
    assert shown_metric("inception_kid", 0.0123456) == "0.01235"
    assert shown_metric("recall", 0.0123456) == "0.0123"


def test_metrics_are_explained_with_their_source_and_unknown_ones_left_out() -> None:
    assert explanations(["nonsense"]) == ""
    assert explanations(["frechet_distance", "nonsense"]).endswith("(Heusel et al. 2017).")
