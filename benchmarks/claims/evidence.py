"""The measurements of the runs that a claim needs, by subject, seed and epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.claims.statistics import Floats, Group
from benchmarks.claims.subjects import SUBJECTS, Scale
from trainer.errors import UserError

Metrics = Mapping[str, Any]  # a number, or a nested list of numbers


@dataclass(frozen=True)
class Course:
    """One run.

    Attributes:
        metrics: by epoch, ascending, the metrics of the generator.
        steps: by epoch, the step at its end.
        seconds: by epoch, the training time so far.
        curves: by the name in metrics.jsonl, the value at every step from the first. A step without a value repeats
            the previous one (or, at the start, the next).
    """

    metrics: Mapping[int, Metrics]
    steps: Mapping[int, int]
    seconds: Mapping[int, float]
    curves: Mapping[str, Floats]


@dataclass(frozen=True)
class Evidence:
    """All runs of the subjects of a claim, by subject and seed."""

    scale: Scale
    courses: Mapping[str, Mapping[int, Course]]

    def seeds(self, *subjects: str) -> list[int]:
        """The seeds with a run of each of these subjects."""
        return sorted(set.intersection(*(set(self.courses[subject]) for subject in subjects)))

    def epochs(self, subject: str) -> tuple[int, ...]:
        """The epochs at which the subject has snapshots."""
        return SUBJECTS[subject].epochs(self.scale)

    def each(self, subject: str, label: str, value: Callable[[Course], float]) -> Group:
        """One value per seed."""
        courses = self.courses[subject]
        return label, [value(courses[seed]) for seed in sorted(courses)]

    def metric(self, subject: str, name: str, epoch: int) -> Group:
        """A metric of the generator at an epoch, one value per seed."""
        return self.each(subject, SUBJECTS[subject].title, lambda course: float(course.metrics[epoch][name]))

    def mean_array(self, subject: str, name: str, epoch: int) -> Floats:
        """The mean over seeds of an array metric."""
        mean: Floats = np.mean([course.metrics[epoch][name] for course in self.courses[subject].values()], axis=0)
        return mean


def read_curves(rows: Sequence[Mapping[str, Any]], last_step: int) -> dict[str, Floats]:
    """Reads the curves up to a step from the rows of metrics.jsonl; see `Course`.

    Raises:
        UserError: a step is missing.
    """
    taken = [row for row in rows if row["kind"] == "step" and row["step"] <= last_step]
    if [row["step"] for row in taken] != list(range(1, last_step + 1)):
        raise UserError(f"metrics.jsonl does not have steps 1 to {last_step}, each once")
    curves = {}
    for name in ("images", "images_per_s", "d_loss", "g_loss", "d_real", "d_fake", "d_accuracy"):
        values = np.array([np.nan if row.get(name) is None else row[name] for row in taken], dtype=np.float64)
        measured = np.flatnonzero(np.isfinite(values))
        if len(measured):
            before = np.searchsorted(measured, np.arange(len(values)), side="right") - 1
            curves[name] = values[measured[np.maximum(before, 0)]]
    return curves
