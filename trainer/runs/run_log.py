"""What else wants to hear of a run while it goes on, beside its folder: TensorBoard, Weights & Biases.

A log never changes what is trained, and never holds anything that the run folder has not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

from PIL import Image

# Which chart a measurement of a step belongs to; what is named nowhere else is about the training itself.
_GROUPS: Final = {
    "d_real": "score",
    "d_fake": "score",
    "d_fake_after": "score",
    "d_accuracy": "accuracy",
    "images_per_s": "speed",
}
_NO_CURVES: Final = {"kind", "step", "images"}


class RunLog(ABC):
    """A place that is told what a run measures, as it measures it; closed on every way out of the training."""

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers at a step, by name: `loss/g_loss`, `evaluation/sliced_wasserstein_distance`."""

    @abstractmethod
    def text(self, step: int, name: str, line: str) -> None:
        """A line for the user at a step."""

    @abstractmethod
    def image(self, step: int, name: str, image: Image.Image) -> None:
        """A picture at a step."""

    @abstractmethod
    def flush(self) -> None:
        """Hands over what is buffered; called after each checkpoint."""

    @abstractmethod
    def close(self) -> None:
        """Hands over all that is left."""


def curves_of_steps(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """One point of each curve for some consecutive rows of metrics.jsonl, each the mean of what was measured in them.

    Every row stays in metrics.jsonl: a point a step and curve would cost more than a step does on a fast device.
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in _NO_CURVES and (number := _finite(value)) is not None:
                group = "loss" if name.endswith("_loss") else _GROUPS.get(name, "training")
                values.setdefault(f"{group}/{name}", []).append(number)
    return {name: sum(several) / len(several) for name, several in values.items()}


def curves_of_evaluation(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite metrics of an evaluation."""
    numbers = ((name, _finite(value)) for name, value in metrics.items())
    return {f"evaluation/{name}": number for name, number in numbers if number is not None}


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
