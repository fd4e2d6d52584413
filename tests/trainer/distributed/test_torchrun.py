"""The command line under torchrun, as a user starts it."""

from __future__ import annotations

import re
import shlex
import subprocess
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.trainer.distributed.conftest import ROOT, TORCHRUN
from trainer.__main__ import main
from trainer.runs.run_folder import RunFolder

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]  # two interpreters have to load torch

LIMIT_S = 200
TINY = ("--model", "dcgan", "--width", "0.1", "--batch-size", "8", "--device", "cpu", "--eval-images", "16")


def torchrun(*arguments: str) -> list[str]:
    return [*TORCHRUN, "trainer", *arguments]


def test_a_mistake_is_told_once_and_all_exit_with_2(tmp_path: Path) -> None:
    command = torchrun(*TINY, "--batch-size", "9", "--out", str(tmp_path / "runs"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    stderr = done.stderr
    assert done.stdout == ""
    errors = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    assert errors == [
        "Error: --batch-size: 2 processes cannot share batches of 9 images evenly; give a multiple of 2, or start fewer"
        " processes"
    ]
    exit_codes = re.findall(r"exitcode\s*: (-?\d+)", stderr)
    assert exit_codes
    assert set(exit_codes) == {"2"}
    assert not list(tmp_path.rglob("config.json"))


def test_the_example_of_the_guide_trains_and_sigterm_stops_it_with_a_checkpoint(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "distributed.md").read_text()
    example = re.search(r"^torchrun (.*) -m trainer (.*)$", guide, re.MULTILINE)
    assert example is not None
    assert shlex.split(example[1]) == ["--standalone", "--nproc-per-node", "2"]
    endless = ("--width", "0.1", "--steps", "100000", "--eval-images", "16", "--out", str(tmp_path))
    process = subprocess.Popen(
        torchrun(*shlex.split(example[2]), *endless),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines: list[str] = []
    watchdog = threading.Timer(LIMIT_S, process.terminate)
    watchdog.start()
    try:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                lines.append(line)
                if "[step 50/" in line:
                    process.terminate()
    finally:
        watchdog.cancel()
        process.terminate()  # torchrun ends its processes before itself
        process.wait(timeout=200)
    assert any("[step 50/" in line for line in lines), lines
    said = "".join(lines)
    run = RunFolder(next(tmp_path.iterdir()))
    step = run.read_metadata().step
    assert 50 <= step < 100_000
    assert said.count(f"interrupted at step {step}; continue with: python -m trainer --resume {run.path}\n") == 1
    assert lines[-1].strip() == str(run.path)

    alone = CliRunner().invoke(main, ["--resume", str(run.path), "--steps", str(step + 2)])
    assert alone.exit_code == 0, alone.output
    assert run.read_metadata().step == step + 2
    assert [row["step"] for row in run.metrics.read() if row["kind"] == "step"] == list(range(1, step + 3))
