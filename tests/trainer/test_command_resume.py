"""--resume with flags that say where the data is, or change the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.trainer.test_command import TINY, files_of, run, the_error


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    """A run of two steps on twelve gray pictures in the folder `faces`, next to the folder `runs`."""
    (tmp_path / "faces").mkdir()
    for index in range(12):
        Image.effect_noise((32, 32), 20 + 10 * index).save(tmp_path / "faces" / f"{index}.png")
    result = run(
        "--model", "dcgan", "--dataset", str(tmp_path / "faces"), *TINY, "--steps", "2", "--out", str(tmp_path)
    )
    assert result.exit_code == 0, result.output
    return Path(result.stdout.splitlines()[-1])


@pytest.mark.usefixtures("no_figures")
def test_a_run_goes_on_after_its_data_has_moved(small_run: Path, tmp_path: Path) -> None:
    faces = (tmp_path / "faces").rename(tmp_path / "moved")
    error = the_error(run("--resume", str(small_run), "--steps", "4"))
    assert error.endswith("faces: no such folder or zip file; if it has moved, say where it is with --dataset PATH\n")
    result = run("--resume", str(small_run), "--steps", "4", "--dataset", str(faces))
    assert result.exit_code == 0, result.output
    assert "From here on" not in result.stdout  # the run is the same, bit for bit
    assert json.loads((small_run / "config.json").read_text())["dataset"] == f"folder:{faces}"
    assert run("--resume", str(small_run), "--steps", "6").exit_code == 0


def test_a_run_does_not_go_on_with_other_data(small_run: Path, tmp_path: Path) -> None:
    before = files_of(small_run)
    (tmp_path / "faces" / "1.png").unlink()
    error = the_error(run("--resume", str(small_run), "--steps", "4"))
    assert "are not those that this run began with (11 now, 12 then); restore them, say where they are with" in error
    changed = {path for path, facts in files_of(small_run).items() if before.get(path) != facts}
    assert {path.relative_to(small_run).parts[0] for path in changed} <= {".lock", "tensorboard"}
    error = the_error(run("--resume", str(small_run), "--steps", "4", "--dataset", str(tmp_path / "nowhere")))
    assert "--dataset" in error
    assert "nowhere" in error


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("flags", "fields", "note"),
    [
        (["--batch-size", "6"], {"batch_size": 6}, "--batch-size 8 -> 6"),
        (
            ["--lr", "0.001"],
            {"generator_lr": 0.001, "discriminator_lr": 0.001},
            "--generator-lr 0.0004 -> 0.001, --disc",
        ),
        (["--discriminator-lr", "0.002"], {"discriminator_lr": 0.002}, "note: --discriminator-lr 0.0004 -> 0.002."),
        (["--batch-size", "8"], {"batch_size": 8}, ""),
    ],
)
def test_batch_size_and_rates_change_on_resume_with_a_note(
    flags: list[str], fields: dict[str, float], note: str, small_run: Path
) -> None:
    result = run("--resume", str(small_run), "--steps", "3", *flags)
    assert result.exit_code == 0, result.output
    assert note in result.stdout
    assert ("From here on, this run differs bit by bit" in result.stdout) == bool(note)
    config = json.loads((small_run / "config.json").read_text())
    assert {name: config[name] for name in fields} == fields
    rows = [json.loads(line) for line in (small_run / "metrics.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows if row["kind"] == "step"] == [8, 16, 16 + config["batch_size"]]
