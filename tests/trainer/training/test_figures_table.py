from __future__ import annotations

import io
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
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in file.getvalue().splitlines() if "│" in line
    ]


def test_each_metric_stands_beside_that_of_real_images() -> None:
    last = {"sliced_wasserstein_distance": 30.0, "ms_ssim": 0.2, "ms_ssim_real": 0.15, "inception_fid": None}
    best = {"sliced_wasserstein_distance": 20.5, "ms_ssim": 0.25, "ms_ssim_real": 0.15}
    floor = {"real_images": 512, "sliced_wasserstein_distance": 10.0, "ms_ssim": 0.14, "ms_ssim_real": 0.16}
    assert lines(growing_config(), last=last, best=best, floor=floor) == [
        ["SWD *", "30", "20.50", "10", "smaller"],
        ["MS-SSIM", "0.2", "0.25", "0.15", "as real images"],
        ["FID", "-", "-", "-", "smaller"],
    ]


def test_translations_stand_beside_unchanged_images() -> None:
    last = {"cycle_l1": 0.1, "paired_l1_ab": 0.3, "paired_l1_unchanged": 0.6, "paired_l1": 0.2}
    assert lines(cycle_config(), last=last, best=last) == [
        ["cycle L1", "0.1", "0.1", "-", "smaller"],
        ["L1 a to b", "0.3", "0.3", "0.6", "smaller"],
        ["L1 *", "0.2", "0.2", "0.6", "smaller"],
    ]


@pytest.mark.parametrize("floor", [{}, {"real_images": 9}])
def test_the_title_names_the_number_of_real_images(floor: dict[str, int]) -> None:
    title = str(figures_table(growing_config(), summary_of(last={}, floor=floor)).title)
    assert title == "0001-it: step 40" + (", 9 real images against 9 others" if floor else "")
