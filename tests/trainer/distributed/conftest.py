"""Two processes that train together, once for all tests of a file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.distributed.exercises import HALF, RESUMED, run_folder, train_in

ROOT = Path(__file__).parents[3]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
LIMIT_S = 400  # for two processes to do all exercises: many times what it takes

Answers = Callable[[str], list[Any]]


@pytest.fixture(scope="session")
def exercised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have done all exercises."""
    folder = tmp_path_factory.mktemp("exercises")
    for name, config in RESUMED.items():
        train_in(run_folder(folder, name, "begun alone"), config, stop_at=HALF)
    command = [sys.executable, "-m", "tests.trainer.distributed.exercises", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (folder / "_lose_a_peer.0.json").is_file(), done.stderr[-4000:]
    return folder


@pytest.fixture(scope="session")
def answers(exercised: Path) -> Answers:
    """What each process found in an exercise, by rank."""

    def read(exercise: str) -> list[Any]:
        return [json.loads((exercised / f"{exercise}.{rank}.json").read_text()) for rank in range(2)]

    return read
