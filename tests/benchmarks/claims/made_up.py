"""Made-up evidence for claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.claims.evidence import Course, Evidence
from benchmarks.claims.statistics import Floats
from benchmarks.claims.subjects import SUBJECTS, Scale

METRICS = (
    "laplacian_ratio",
    "high_frequency_share",
    "diagonal_stripes_db",
    "stride_peaks_db",
    "ms_ssim",
    "frechet_distance",
    "precision",
    "recall",
    "coverage",
    "pairwise_distance",
    "sure_share",
    "latent_change",
    "latent_share",
    "change_top",
    "change_centre",
    "change_border",
)
CURVES = ("d_loss", "g_loss", "d_real", "d_fake", "d_accuracy")
STEPS_PER_EPOCH = 10

Metric = Callable[[str, int, str], float]  # subject, epoch, name
Curve = Callable[[str, str, int], Floats]  # subject, name, steps


def flat(_subject: str, _name: str, steps: int) -> Floats:
    return np.full(steps, 0.7)


def made_up(
    scale: Scale, subjects: Iterable[str], metric: Metric, curve: Curve = flat, seeds: int = 3, step_s: float = 1.0
) -> Evidence:
    """Evidence whose seeds differ by about 1 %; every step takes `step_s`."""
    courses: dict[str, dict[int, Course]] = {}
    for subject in subjects:
        epochs = SUBJECTS[subject].epochs(scale)
        courses[subject] = {}
        for seed in range(seeds):
            shift = 1 + 0.01 * seed
            steps = {epoch: epoch * STEPS_PER_EPOCH for epoch in epochs}
            metrics = {
                epoch: {name: metric(subject, epoch, name) * shift for name in METRICS}
                | {"latent_map": [[0.1, 0.2], [0.3, 0.4]], "latent_changes": [0.1, 0.2, 0.3]}
                for epoch in epochs
            }
            curves = {name: curve(subject, name, steps[epochs[-1]]) * shift for name in CURVES}
            seconds = {epoch: step_s * steps[epoch] for epoch in epochs}
            courses[subject][seed] = Course(metrics, steps, seconds, curves)
    return Evidence(scale, courses)
