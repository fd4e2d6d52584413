"""The table of stages, the most valuable first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        module: has `run(settings, record)`.
        limit_s: ends after this time, whatever is left.
        summary: what it answers.
        takes_the_rest: may use the time that stages before it have left over.
    """

    module: str
    limit_s: float
    summary: str
    takes_the_rest: bool = False


STAGES: Final[dict[str, Stage]] = {
    "works": Stage("benchmarks.gpu.works", 100, "does training, export and serving work on a GPU at all?"),
    "training": Stage("benchmarks.gpu.training", 140, "how fast is a training step?"),
    "serving": Stage("benchmarks.gpu.serving", 150, "how fast is the CUDA engine, and the server around it?"),
    "quality": Stage(
        "benchmarks.gpu.quality", 80, "how good are images after a minute of training?", takes_the_rest=True
    ),
    "determinism": Stage("benchmarks.gpu.determinism", 55, "are runs repeatable, and can two processes share a GPU?"),
}
