from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import precision_spread, serving, train_throughput, training
from benchmarks.tutorial_loop import PictureFiles, TutorialLoop
from trainer.config import GanConfig, override
from trainer.presets import choose_preset

SHORT = ["--seconds", "0.05", "--rounds", "1"]


@pytest.mark.parametrize(
    ("command", "arguments", "rows"),
    [
        (training.main, ["--model", "gan", "--device", "cpu"], 4),
        (serving.main, ["--preset", "dcgan-digits"], 8),
        (train_throughput.main, ["--preset", "dcgan-fmnist32", "--pictures", "256", "--device", "cpu"], 3),
    ],
    ids=["training", "serving", "train_throughput"],
)
def test_a_benchmark_prints_a_table_and_writes_the_same_as_json(
    command: click.Command, arguments: list[str], rows: int, tmp_path: Path
) -> None:
    out = tmp_path / "figures.json"
    result = CliRunner().invoke(command, [*arguments, *SHORT, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    written = json.loads(out.read_text())
    assert len(written["rows"]) == rows
    assert all(row["images/s"] > 0 for row in written["rows"])
    assert {"processor", "cores", "torch"} <= written["machine"].keys()
    assert written["title"] in " ".join(result.output.split())


def test_the_spread_of_seeds_is_the_unit_of_what_bf16_changes() -> None:
    exact = np.array([[0.0, 10.0], [2.0, 14.0]])  # standard deviations: sqrt 2, and sqrt 8
    apart = precision_spread.compare(exact, exact + np.array([1.0, 4.0]))
    assert (apart.median, apart.largest, apart.window) == pytest.approx(((0.5**0.5 + 2**0.5) / 2, 2**0.5, 1))
    assert apart.largest_typical == pytest.approx(4 / 5**0.5)  # the root mean square of the two is sqrt 5


def test_curves_are_compared_over_seeds(tmp_path: Path) -> None:
    out = tmp_path / "spread.json"
    arguments = ["--model", "gan", "--preset", "gan-digits", "--steps", "10", "--seeds", "2", "--out", str(out)]
    result = CliRunner().invoke(precision_spread.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    rows = json.loads(out.read_text())["rows"]
    spreads = {row["curve"]: row["its spread"] for row in rows}
    assert all(spreads[name] > 0 for name in ("d_loss", "g_loss", "d_real", "d_fake", "sliced_wasserstein_distance"))


def test_a_network_that_grows_spends_equal_shares_of_the_steps_on_each_phase() -> None:
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


def test_the_tutorials_loop_trains_both_networks_on_picture_files(tmp_path: Path) -> None:
    config = override(train_throughput.config_of("dcgan-fmnist32"), {"network.width": 0.125})
    pixels = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8)
    train_throughput.write_pictures(pixels, tmp_path)
    data = PictureFiles(tmp_path, 32, 1)
    batch = torch.stack([data[index] for index in range(len(data))])
    torch.testing.assert_close((batch + 1) * 127.5, pixels.float(), atol=1e-3, rtol=0)
    loop = TutorialLoop(config, torch.device("cpu"))
    losses = [loop.iterate(batch) for _ in range(12)]
    assert losses[-1][0] < losses[0][0]  # on eight pictures, the discriminator learns at once
    assert losses[-1][2] > losses[-1][3]
