"""A training process that is killed with SIGKILL, and goes on as if nothing had happened: one of each kind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from trainer.__main__ import main
from trainer.runs.run_folder import CheckpointMetadata, RunFolder

pytestmark = pytest.mark.slow

# 18 pictures in batches of 4: a pass over them ends with the steps 5, 9 and 14, and so a checkpoint is written.
SMALL = ["--batch-size", "4", "--steps", "16", "--device", "cpu", "--seed", "3", "--eval-images", "16"]
SMALL += ["--set", "log_every_steps=1"]  # the test waits for the line of a step
KINDS = {
    "wgan": ["--preset", "wgan-digits", "--width", "0.1", "--n-critic", "3"],
    "pggan": ["--preset", "pggan-small", "--width", "0.05", "--stabilise-images", "12", "--fade-images", "50"],
    "cyclegan": ["--preset", "cyclegan-digits", "--width", "0.05", "--residual-blocks", "1", "--pool-images", "6"],
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """18 noisy pictures, which also are the two domains of a translator."""
    for folder in ("plain", "domains/trainA", "domains/trainB"):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(18):
            Image.effect_noise((32, 32), 20 + 10 * index).save(tmp_path / folder / f"{index}.png")
    return tmp_path


def flags_of(model: str, pictures: Path) -> list[str]:
    folder = pictures / ("domains" if model == "cyclegan" else "plain")
    return ["--model", model, *KINDS[model], *SMALL, "--dataset", f"folder:{folder}"]


def killed_after_a_checkpoint(flags: list[str], out: Path) -> Path:
    """Trains in a process of its own and kills it when the second checkpoint is due, so that the first is whole."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *flags, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    guard = threading.Timer(200, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        output = []
        for line in process.stdout:
            output.append(line)
            if "[step 9/" in line:
                break
        else:
            raise AssertionError("".join(output))
    finally:
        process.kill()
        process.communicate()
        guard.cancel()
    assert process.returncode == -9
    return next(path for path in out.iterdir() if not path.name.startswith("."))


def train_here(*flags: str) -> RunFolder:
    result = CliRunner().invoke(main, list(flags))
    assert result.exit_code == 0, result.output
    return RunFolder(Path(result.stdout.splitlines()[-1]))


def assert_killed_in_the_middle(run: RunFolder, metadata: CheckpointMetadata) -> None:
    if metadata.counters.get("critic_steps_since_generator"):
        return
    if 0 < metadata.fade < 1:
        return
    assert len(load_file(run.checkpoint_path("last"))["pool_a.images"]) == 6


@pytest.mark.timeout(400)
@pytest.mark.parametrize("model", KINDS)
def test_a_killed_training_ends_as_one_that_was_not(model: str, pictures: Path, tmp_path: Path) -> None:
    flags = flags_of(model, pictures)
    killed = RunFolder(killed_after_a_checkpoint(flags, tmp_path / "killed"))
    metadata = killed.read_metadata()
    assert metadata.step in {5, 9}
    assert_killed_in_the_middle(killed, metadata)  # of a critic's turns, of a fade, or with full pools
    assert train_here("--resume", str(killed.path)).path == killed.path
    whole = train_here(*flags, "--out", str(tmp_path / "whole"))
    for which in ("last", "best"):
        expected, actual = load_file(whole.checkpoint_path(which)), load_file(killed.checkpoint_path(which))
        assert expected.keys() == actual.keys()
        for name, tensor in expected.items():
            assert torch.equal(tensor, actual[name]), name
    rows = [
        [row | {"images_per_s": 0} for row in run.metrics.read() if row["kind"] != "resources"]
        for run in (whole, killed)
    ]
    assert rows[0] == rows[1]
    assert rows[0][-1]["step"] == 16
