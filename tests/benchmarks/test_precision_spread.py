from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import precision_spread
from trainer.config import GanConfig
from trainer.presets import choose_preset


def test_distances_are_in_standard_deviations_over_seeds() -> None:
    exact = np.array([[0.0, 10.0], [2.0, 14.0]])  # standard deviations: sqrt 2, and sqrt 8
    apart = precision_spread.compare(exact, exact + np.array([1.0, 4.0]))
    assert (apart.median, apart.largest, apart.window) == pytest.approx(((0.5**0.5 + 2**0.5) / 2, 2**0.5, 1))
    assert apart.largest_typical == pytest.approx(4 / 5**0.5)  # the root mean square of the two is sqrt 5


def test_curves_are_compared_over_seeds(tmp_path: Path) -> None:
    out = tmp_path / "spread.json"
    arguments = ["--model", "gan", "--preset", "gan-digits", "--steps", "10", "--seeds", "2", "--eval-images", "16"]
    result = CliRunner().invoke(precision_spread.main, [*arguments, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    rows = json.loads(out.read_text())["rows"]
    spreads = {row["curve"]: row["its spread"] for row in rows}
    assert all(spreads[name] > 0 for name in ("d_loss", "g_loss", "d_real", "d_fake", "sliced_wasserstein_distance"))


def test_a_growing_network_spends_equal_shares_of_the_steps_on_each_phase() -> None:
    config = precision_spread.with_growth_in(choose_preset("pggan", None, None), 700)
    assert isinstance(config, GanConfig)
    assert config.growth is not None
    assert (config.growth.stabilise_images, config.growth.fade_images) == (1600, 1600)  # 7 phases, batches of 16
    large = precision_spread.with_growth_in(choose_preset("pggan", "pggan-paper", None), 17)
    assert isinstance(large, GanConfig)
    assert large.growth is not None
    assert (large.growth.fade_images, large.growth.batch_sizes) == (large.batch_size, {})
    flat = choose_preset("dcgan", None, None)
    assert precision_spread.with_growth_in(flat, 700) is flat
