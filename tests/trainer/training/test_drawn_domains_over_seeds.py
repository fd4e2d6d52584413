"""The default CycleGAN on the drawn domains must not depend on luck."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from trainer.__main__ import main


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_short_run_finds_the_partners_of_the_digits(seed: int, tmp_path: Path) -> None:
    steps = ("--steps", "110", "--eval-every", "110", "--seed", str(seed), "--out", str(tmp_path))
    result = CliRunner().invoke(main, ["--model", "cyclegan", *steps])
    assert result.exit_code == 0, result.output
    (log,) = tmp_path.glob("*/metrics.jsonl")
    scores = [row for row in map(json.loads, log.read_text().splitlines()) if row["kind"] == "evaluation"]
    assert scores[-1]["paired_ms_ssim"] > 0.8, scores[-1]
