"""The interface of logs in addition to the run folder: TensorBoard, Weights & Biases.

A log never changes the training and holds nothing that the run folder lacks.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from PIL import Image

from trainer.config import AnyConfig

# Measurement -> chart; all others but the losses go to "training".
_GROUPS: Final = {
    "d_real": "score",
    "d_fake": "score",
    "d_fake_after": "score",
    "d_accuracy": "accuracy",
    "images_per_s": "speed",
    "recent_images_per_s": "speed",
    "process_gb": "memory",
    "cuda_allocated_gb": "memory",
    "cuda_reserved_gb": "memory",
}
_NO_CURVES: Final = {"kind", "step", "images"}


class RunLog(ABC):
    """Receives the measurements of a run as they are made; closed however the run ends."""

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name: `loss/g_loss`, `evaluation/sliced_wasserstein_distance`."""

    @abstractmethod
    def text(self, step: int, name: str, line: str) -> None:
        """A line for the user."""

    @abstractmethod
    def image(self, step: int, name: str, image: Image.Image) -> None:
        """A picture."""

    @abstractmethod
    def flush(self) -> None:
        """Writes out what is buffered; called after each checkpoint."""

    @abstractmethod
    def close(self) -> None:
        """Writes out everything and ends the log."""


def public_settings(config: AnyConfig) -> dict[str, Any]:
    """The settings as plain values; of paths, which may be private, at most the name."""
    settings: dict[str, Any] = msgspec.to_builtins(config)
    settings["dataset"] = config.dataset.partition(":")[0]
    del settings["data_root"]
    for name in ("init_from", "inception_weights"):
        if settings.get(name):
            settings[name] = Path(settings[name]).name
    return settings


def curves_of_steps(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """One point per curve for consecutive rows of metrics.jsonl about steps: the mean of the values in them.

    metrics.jsonl keeps every row; one point per step and curve would cost more than a step on a fast device.
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in _NO_CURVES and (number := _finite(value)) is not None:
                group = "loss" if name.endswith("_loss") else _GROUPS.get(name, "training")
                values.setdefault(f"{group}/{name}", []).append(number)
    return {name: sum(several) / len(several) for name, several in values.items()}


def curves_of_evaluation(metrics: Mapping[str, Any], floor: Mapping[str, Any]) -> dict[str, float]:
    """The finite metrics of an evaluation, and of real images against other real images where they are known."""
    numbers = [(f"evaluation/{name}", _finite(value)) for name, value in metrics.items()]
    numbers += [(f"floor/{name}", _finite(floor.get(name))) for name in metrics]
    return {name: number for name, number in numbers if number is not None}


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
