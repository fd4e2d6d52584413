"""Records of runs that nobody trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from trainer.presets import PRESETS
from trainer.report.record import EvaluationRow, RunRecord

CONFIG = replace(PRESETS["dcgan", "dcgan-digits"].config, best_by="sliced_wasserstein_distance")


def record(*evaluations: EvaluationRow, **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "name": "r",
        "path": Path("out/runs/r"),
        "config": CONFIG,
        "steps": 8,
        "images": 512,
        "images_per_s": 0.1 + 0.2,
        "train_seconds": 3.0,
        "curves": {},
        "floor": None,
        "epoch_ends": {1: 4, 2: 8},
        "warnings": [],
        "more_warnings": 0,
        "samples": {4: Path("4.png"), 8: Path("8.png")},
    }
    return RunRecord(**(fields | {"evaluations": list(evaluations)} | changes))


def row(step: int, swd: float, recall: float, **protocol: str) -> EvaluationRow:
    return EvaluationRow(step, {"sliced_wasserstein_distance": swd, "recall": recall}, protocol)
