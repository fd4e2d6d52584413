from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.trainer.tiny_trainings import cycle_config, growing_config
from trainer.config import AnyConfig
from trainer.training.figures_table import figures_table
from trainer.training.session import Summary


def summary_of(**fields: Any) -> Summary:
    defaults: dict[str, Any] = {"best": {}, "floor": {}, "notices": (), "interrupted": False, "given_up": False}
    defaults |= dict.fromkeys(("images_seen", "images_per_s", "train_seconds", "best_score", "output_size"), 0)
    return Summary(run=Path("runs/0001-it"), step=40, **defaults | fields)


def lines(config: AnyConfig, **fields: Any) -> list[list[str]]:
    """The cells of the table, printed at 80 columns."""
    file = io.StringIO()
    Console(file=file, width=80).print(figures_table(config, summary_of(**fields)))
    assert max(map(len, file.getvalue().splitlines())) <= 80
    printed = [re.split(r"  +", line.strip()) for line in file.getvalue().splitlines()]
    return printed[[line[0] for line in printed].index("metric") + 1 :]


def test_each_metric_stands_beside_that_of_real_images() -> None:
    last = {"sliced_wasserstein_distance": 30.0, "ms_ssim": 0.2, "ms_ssim_real": 0.15, "inception_fid": None}
    best = {"sliced_wasserstein_distance": 20.5, "ms_ssim": 0.25, "ms_ssim_real": 0.15}
    floor = {"real_images": 512, "sliced_wasserstein_distance": 10.0, "ms_ssim": 0.14, "ms_ssim_real": 0.16}
    assert lines(growing_config(), last=last, best=best, floor=floor) == [
        ["SWD *", "30", "20.50", "10", "smaller"],
        ["MS-SSIM", "0.2", "0.25", "0.15", "as real"],
        ["FID", "-", "-", "-", "smaller"],
    ]


def test_translations_stand_beside_unchanged_images() -> None:
    last = {"cycle_l1": 0.1, "paired_l1_ab": 0.3, "paired_l1_unchanged": 0.6, "paired_l1": 0.2}
    assert lines(cycle_config(), last=last, best=last) == [
        ["cycle L1", "0.1", "0.1", "-", "smaller"],
        ["L1 a to b", "0.3", "0.3", "0.6", "smaller"],
        ["L1 *", "0.2", "0.2", "0.6", "smaller"],
    ]


def test_standard_errors_stand_beside_the_metrics_and_their_references() -> None:
    last = {"ms_ssim": 0.1511, "ms_ssim_real": 0.1568, "ms_ssim_real_standard_error": 0.0042}
    last |= {"sliced_wasserstein_distance": 17.522, "sliced_wasserstein_distance_standard_error": 0.62}
    best = {"ms_ssim": 0.14, "ms_ssim_standard_error": 0.013}
    floor = {"sliced_wasserstein_distance": 7.39, "sliced_wasserstein_distance_standard_error": 0.13}
    assert lines(growing_config(), last=last, best=best, floor=floor) == [
        ["MS-SSIM", "0.1511", "0.140 ± 0.013", "0.157 ± 0.004", "as real"],
        ["SWD *", "17.5 ± 0.6", "-", "7.39 ± 0.13", "smaller"],
    ]
    wide = dict.fromkeys(("ms_ssim", "ms_ssim_real"), 0.9147)
    wide |= dict.fromkeys(("ms_ssim_standard_error", "ms_ssim_real_standard_error"), 0.0018)
    [row] = lines(growing_config(), last=wide, best=wide)  # also checks that it fits 80 columns
    assert row == ["MS-SSIM", *["0.9147 ± 0.0018"] * 3, "as real"]


@pytest.mark.parametrize("floor", [{}, {"real_images": 9}])
def test_the_title_names_the_number_of_real_images(floor: dict[str, int]) -> None:
    title = str(figures_table(growing_config(), summary_of(last={}, floor=floor)).title)
    assert title == "0001-it: step 40" + (", 9 real images against 9 others" if floor else "")
