"""Which metrics at the end of a run cause a warning, and which do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from trainer.runs.verdict import VERDICTS, Verdict

# Recorded: 512 images of 1,797 digits at 32x32.
FLOOR = {"frechet_distance": 0.3155, "ms_ssim": 0.1468, "ms_ssim_real": 0.139, "sliced_wasserstein_distance": 10.84}
REALS = {"ms_ssim_real": 0.157, "feature_variance": 37.4}
# mlp-batchnorm after 2,000 steps with R1; the same with the default loss: gray fog, few digits.
GOOD = {"frechet_distance": 3.69, "ms_ssim": 0.192, "recall": 0.319, "sliced_wasserstein_distance": 66.5} | REALS
POOR = {"frechet_distance": 24.2, "ms_ssim": 0.313, "recall": 0.006, "sliced_wasserstein_distance": 107.3} | REALS
# Two CycleGANs on drawn digits after 120 steps: without the identity loss, and with figure and ground swapped.
UNCHANGED = {"paired_l1_unchanged": 0.629, "paired_ms_ssim_unchanged": 0.0}
TRANSLATED = {"paired_l1": 0.0649, "paired_ms_ssim": 0.8954, "cycle_l1": 0.0647} | UNCHANGED
SWAPPED = {"paired_l1": 0.2546, "paired_ms_ssim": 0.0141, "cycle_l1": 0.0829} | UNCHANGED


def evaluation(metrics: Mapping[str, float | None], step: int = 100) -> dict[str, Any]:
    return {"kind": "evaluation", "step": step, "image_size": 32, **metrics}


def names(*rows: dict[str, Any], floor: dict[str, float] | None = FLOOR) -> list[str]:
    verdict = Verdict()
    for row in [] if floor is None else [{"kind": "floor", "step": 50, **floor}]:
        verdict.see(row)
    for row in rows:
        verdict.see(row)
    return [notice.name for notice in verdict.notices()]


@pytest.mark.parametrize("good", [GOOD, TRANSLATED, FLOOR | REALS])
def test_good_runs_cause_no_warning(good: dict[str, float]) -> None:
    assert names(evaluation(good)) == []


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (POOR, ["modes-missing", "far-from-real"]),
        (GOOD | {"ms_ssim": 0.248}, ["modes-missing"]),
        (GOOD | {"frechet_distance": 13.1}, ["far-from-real"]),
        (SWAPPED, ["partners-missed"]),
        (TRANSLATED | {"paired_l1": 0.62}, ["no-better-than-unchanged"]),
        (UNCHANGED | {"paired_l1": 0.629, "paired_ms_ssim": 0.0}, ["no-better-than-unchanged", "partners-missed"]),
    ],
)
def test_bad_runs_cause_a_warning_with_the_figures_and_a_remedy(metrics: dict[str, float], expected: list[str]) -> None:
    assert names(evaluation(metrics)) == expected
    assert set(expected) <= set(VERDICTS)
    verdict = Verdict()
    verdict.see(evaluation(metrics))
    for notice in verdict.notices():
        assert notice.step == 100
        assert "try " in notice.text
        assert "\n" not in notice.text
        assert any(f"{value:.3g}" in notice.text or f"{value:.3f}" in notice.text for value in metrics.values())


def test_the_remedy_of_the_model_is_proposed_if_it_has_one() -> None:
    for remedy, words in (("--flag 1", "train longer, or try --flag 1, another --seed"), ("", "or try another --seed")):
        for metrics in (POOR, SWAPPED, TRANSLATED | {"paired_l1": 0.62}):
            verdict = Verdict(remedy)
            verdict.see(evaluation(metrics))
            assert verdict.notices()
            assert all(words in notice.text for notice in verdict.notices())


def test_growing_networks_are_judged_by_swd_above_the_floor_of_their_last_size() -> None:
    rows = [
        {"kind": "floor", "step": 10, "image_size": 8, "sliced_wasserstein_distance": 90.0},
        evaluation({"sliced_wasserstein_distance": 500.0}, 10),
        {"kind": "floor", "step": 20, "image_size": 16, "sliced_wasserstein_distance": 10.0},
    ]
    assert names(*rows, evaluation({"sliced_wasserstein_distance": 49.0}, 20), floor=None) == []
    assert names(*rows, evaluation({"sliced_wasserstein_distance": 51.0}, 20), floor=None) == ["far-from-real"]


@pytest.mark.parametrize(("swd", "expected"), [(46.5, []), (75.4, ["far-from-real"])])
def test_swd_judges_where_it_chooses_the_checkpoint(swd: float, expected: list[str]) -> None:
    # Recorded: dcgan on 300 drawings after 1,250 and 750 steps. FD is above its limit of 0.43 in both.
    verdict = Verdict(chosen_by="sliced_wasserstein_distance")
    verdict.see({"kind": "floor", "step": 250, "frechet_distance": 0.131, "sliced_wasserstein_distance": 25.99})
    scores = {"frechet_distance": 1.147, "sliced_wasserstein_distance": swd, "feature_variance": 1.501}
    verdict.see(evaluation(scores))
    assert [notice.name for notice in verdict.notices()] == expected
    assert all("SWD 75.4; a good run ends below 65.99" in notice.text for notice in verdict.notices())


def test_samples_may_resemble_each_other_by_a_little_where_real_images_hardly_do() -> None:
    assert names(evaluation({"ms_ssim": 0.06, "ms_ssim_real": 0.02})) == []
    assert names(evaluation({"ms_ssim": 0.08, "ms_ssim_real": 0.02})) == ["modes-missing"]


@pytest.mark.parametrize(("end", "expected"), [(0.85, []), (0.75, ["partners-missed"])])
def test_translations_must_not_get_much_worse_than_they_were(end: float, expected: list[str]) -> None:
    earlier = evaluation(TRANSLATED | {"paired_ms_ssim": 0.9}, 50)
    assert names(earlier, evaluation(TRANSLATED | {"paired_ms_ssim": end}, 100)) == expected


def test_the_last_evaluation_alone_decides_about_images_from_latents() -> None:
    assert names(evaluation(POOR, 50), evaluation(GOOD, 100)) == []


@pytest.mark.parametrize("metrics", [{}, dict.fromkeys((*POOR, *SWAPPED)), {"cycle_l1": 0.5, "identity_l1": 0.5}])
def test_what_was_not_measured_or_is_not_finite_causes_no_warning(metrics: dict[str, None]) -> None:
    assert names(evaluation(metrics), floor=None) == []


def test_a_run_without_evaluations_is_not_judged() -> None:
    assert names({"kind": "step", "step": 1, "d_loss": 1.0}) == []
