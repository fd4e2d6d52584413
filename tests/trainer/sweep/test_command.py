"""`python -m trainer.sweep`: flags, output and errors."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.trainer.sweep.conftest import TINY, WriteSpec, run, the_error
from trainer.presets import PRESETS
from trainer.sweep.command import KNOWN_IMAGES, estimated_images


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quick"], "--quick: this spec has no table [quick]"),
        (["--set", "epochs"], "--set 'epochs'"),
        (["--set", "lr=1"], "--set lr: the axis 'lr' varies it"),
        (["--set", "width=-1"], "cell lr 0.0001: --width: expected `float` > 0"),
        (["--set", "batch_size=2000"], "--batch-size 2000: digits has only 1797 images"),
        (["--set", "dataset=folder:/nowhere/at/all"], "no such folder"),
        (["--report-only"], "--report-only: no sweep in"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_trained(
    arguments: list[str], message: str, spec_file: WriteSpec, tmp_path: Path
) -> None:
    assert message in the_error(run(spec_file(), *arguments, "--out", tmp_path / "out"))
    assert not list(tmp_path.rglob("config.json"))


def test_a_sweep_is_refused_under_torchrun(spec_file: WriteSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "start it without torchrun" in the_error(run(spec_file(), "--dry-run"))


def test_an_out_folder_that_cannot_be_written_to_is_an_error(spec_file: WriteSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "--out" in the_error(run(spec_file(), "--out", tmp_path / "file"))


def test_a_dry_run_prints_the_grid_with_an_estimate_and_writes_nothing(spec_file: WriteSpec, tmp_path: Path) -> None:
    result = run(spec_file(), "--dry-run", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "lr 0.001" in result.output
    assert "2 cells, 2 seeds: 4 trials, about 256 images in total" in result.output
    assert not (tmp_path / "out").exists()


def test_an_estimate_counts_steps_images_and_epochs_of_known_data() -> None:
    known = {key: estimated_images(preset.config) for key, preset in PRESETS.items()}
    assert known["dcgan", "dcgan-digits"] == 1500 * 64
    assert known["pggan", "pggan-small"] == 60_000
    assert known["gan", "mlp-mnist"] == 200 * 60_000
    assert known["dcgan", "dcgan64-k4"] is None  # depends on the user's images
    assert known["cyclegan", "cyclegan-64"] is None


def test_the_known_numbers_of_images_match_the_data() -> None:
    from sklearn.datasets import load_digits

    assert len(load_digits().images) == KNOWN_IMAGES["digits"]


@pytest.mark.usefixtures("no_figures")
def test_the_report_compares_the_cells_and_has_the_command(spec_file: WriteSpec, tmp_path: Path) -> None:
    path, out = spec_file(), tmp_path / "out"
    first = run(path, "--out", out, "--set", "seed_unused=1")
    assert first.exit_code == 2  # a setting that no model has
    assert run(path, "--out", out, "--set", "ema_decay=0.5").exit_code == 0
    page = (out / "report.html").read_text()
    command = shlex.join(["python", "-m", "trainer.sweep", path.name, "--out", out.name, "--set", "ema_decay=0.5"])
    assert command in page
    assert str(tmp_path) not in page
    for text in (
        "At step 2",
        "At the end",
        "Settings that differ",
        "SWD (smaller is better)",
        '<td class="">lr 0.001</td>',
    ):
        assert text in page
    assert page.count('class="number best"') >= 2
    assert page.count("<img") >= 2 * 2 + 2 + 2 * 2  # grids at two moments, metrics, curves
    before = (out / "trials.csv").read_bytes()
    (out / "trials.csv").unlink()
    again = run(path, "--out", out, "--set", "ema_decay=0.5", "--report-only")
    assert again.exit_code == 0, again.output
    assert (out / "trials.csv").read_bytes() == before


@pytest.mark.usefixtures("no_figures", "no_charts")
def test_a_cyclegan_can_be_swept(spec_file: WriteSpec, tmp_path: Path) -> None:
    text = TINY.replace('model = "gan"', 'model = "cyclegan"').replace('preset = "gan-digits"', "residual_blocks = 1")
    text = (
        text.replace("image_size = 16", "image_size = 32")
        .replace("seeds = [0, 1]", "seeds = [0]")
        .replace("lr = [1e-4, 1e-3]", "lr = [1e-4]")
    )
    result = run(spec_file(text), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "cycle L1" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.usefixtures("no_figures", "no_charts")
def test_the_printed_metrics_have_a_row_per_cell_and_fit_into_a_terminal(spec_file: WriteSpec, tmp_path: Path) -> None:
    result = run(spec_file(), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    printed = result.output[result.output.index("At the end") :]
    table = [line for line in printed.splitlines() if "│" in line]
    assert sum("lr 0.001" in line for line in table) == sum("lr 0.0001" in line for line in table) >= 2
    assert "SWD" in printed
    assert "(n " not in printed  # every cell has all seeds
    assert max(map(len, table)) <= 80
