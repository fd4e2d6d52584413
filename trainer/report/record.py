"""Reads what a report needs from a run folder. Every byte is untrusted, so every size is bounded."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from ganserve.metrics import METRICS, STANDARD_ERROR
from trainer.config import AnyConfig
from trainer.errors import RunFolderError
from trainer.metrics.choosing import is_better
from trainer.runs.charts import Curve, Floats
from trainer.runs.collapse import DIVERSE_SPREAD
from trainer.runs.run_folder import RunFolder
from trainer.runs.verdict import Verdict

MAX_METRICS_BYTES = 512 << 20  # 187,600 steps take about 50 MB
MAX_METRICS = 40
MAX_EVALUATIONS = 100_000
MAX_WARNINGS = 50  # shown; the report counts the others
MAX_SAMPLES = 100_000
_SAMPLE = re.compile(r"step-(\d{1,12})\.png")
_LARGEST_STEP = 10**15
_NOT_CURVES = frozenset({"kind", "step", "epoch"})


@dataclass(frozen=True)
class EvaluationRow:
    """One evaluation of a run."""

    step: int
    metrics: dict[str, float]
    protocol: dict[str, str]  # as text
    errors: dict[str, float] = field(default_factory=dict)  # standard errors by metric


@dataclass(frozen=True)
class RunRecord:
    """The content of a run folder, for reports."""

    name: str
    path: Path
    config: AnyConfig
    steps: int
    images: int
    images_per_s: float | None
    train_seconds: float | None  # None: no readable checkpoint
    curves: dict[str, Curve]
    epoch_ends: dict[int, int]  # epoch -> its last step in the log
    evaluations: list[EvaluationRow]
    floor: EvaluationRow | None  # real images against other real images, at the last image size
    warnings: list[tuple[int, str]]  # (step, text)
    more_warnings: int
    samples: dict[int, Path]  # by step, ascending
    collapse: str = ""  # why the samples count as collapsed; empty if they do not

    @property
    def last(self) -> EvaluationRow | None:
        """The last evaluation."""
        return self.evaluations[-1] if self.evaluations else None

    @property
    def score_name(self) -> str | None:
        """The metric that chooses the best checkpoint; None if it was not measured."""
        name = self.config.score_metric
        return name if self.last is not None and name in self.last.metrics else None

    @property
    def best(self) -> EvaluationRow | None:
        """The best evaluation by that metric in the protocol of the last one, which has the final image size.

        The last one if the metric was not measured.
        """
        name = self.score_name
        if name is None or self.last is None:
            return self.last
        protocol = compared_protocol(name, self.last)
        rows = [row for row in self.evaluations if name in row.metrics and compared_protocol(name, row) == protocol]
        best = rows[0]
        for row in rows[1:]:
            if is_better(name, row.metrics[name], best.metrics[name]):
                best = row
        return best

    def places(self, steps: Sequence[int], axis: str) -> Floats:
        """Where steps lie on a horizontal axis: steps, real images shown, or minutes of training."""
        wanted = np.array(steps, float)
        images, speed = self.curves.get("images"), self.curves.get("images_per_s")
        if axis == "steps" or images is None or speed is None:
            return wanted
        shown: Floats = np.interp(wanted, images.steps, images.values)
        if axis == "images":
            return shown
        # The log holds the mean speed since the start of the run.
        speeds: Floats = np.maximum(np.interp(wanted, speed.steps, speed.values), 1e-9)
        return shown / speeds / 60

    def sample_at_epoch(self, epoch: int) -> int | None:
        """The step of the sample grid at the end of an epoch; None if the run has not reached it."""
        end = self.epoch_ends.get(epoch)
        if end is None:
            return None
        # The step with the last image of an epoch may already count as part of the next epoch.
        return next((step for step in (end, end + 1) if step in self.samples), None)

    def sample_at_step(self, wanted: int) -> int | None:
        """The first sample at or after a step; None if the run has not reached it."""
        return next((step for step in self.samples if step >= wanted), None)


def read_record(path: Path, name: str = "") -> RunRecord:
    """Reads a run folder.

    Raises:
        RunFolderError: not a run folder, or a damaged one.
    """
    run = RunFolder.open(path)
    config = run.read_config()
    log = run.metrics.path
    if log.is_file() and log.stat().st_size > MAX_METRICS_BYTES:
        raise RunFolderError(f"{log}: larger than {MAX_METRICS_BYTES >> 20} MiB, too large for a report")
    reader = _Reader()
    for row in run.metrics.read():
        if not 0 <= row["step"] <= _LARGEST_STEP:
            raise RunFolderError(f"{log}: step {str(row['step'])[:30]} is out of range")
        reader.take(row)
    try:
        seconds: float | None = run.read_metadata().train_seconds
    except RunFolderError:  # stopped before its first checkpoint, or the checkpoint is damaged
        seconds = None
    return RunRecord(
        name=name or path.resolve().name,
        path=path,
        config=config,
        steps=reader.steps,
        images=reader.images,
        images_per_s=reader.images_per_s,
        train_seconds=seconds,
        curves={key: Curve(np.array(steps), np.array(values)) for key, (steps, values) in reader.curves.items()},
        epoch_ends=reader.epoch_ends,
        evaluations=reader.evaluations,
        floor=reader.floor,
        warnings=reader.warnings,
        more_warnings=reader.more_warnings,
        samples=_samples(run.samples),
        collapse=reader.collapse,
    )


class _Reader:
    """Collects the rows of metrics.jsonl as plain numbers."""

    def __init__(self) -> None:
        self.steps = 0
        self.images = 0
        self.images_per_s: float | None = None
        self.curves: dict[str, tuple[array[float], array[float]]] = {}
        self.epoch_ends: dict[int, int] = {}
        self.evaluations: list[EvaluationRow] = []
        self.floor: EvaluationRow | None = None
        self.warnings: list[tuple[int, str]] = []
        self.more_warnings = 0
        self._verdict = Verdict()
        self._alike = ""  # the newest warning about alike samples

    @property
    def collapse(self) -> str:
        """Why the samples count as collapsed at the last evaluation; empty if they do not."""
        missing = [notice.text for notice in self._verdict.notices() if notice.name == "modes-missing"]
        return missing[0] if missing else self._alike

    def take(self, row: dict[str, Any]) -> None:
        kind, step = row["kind"], row["step"]
        self._verdict.see(row)
        if kind == "step":
            self._take_step(row, step)
        elif kind == "evaluation" and len(self.evaluations) < MAX_EVALUATIONS:
            self.evaluations.append(_evaluation(row))
        elif kind == "floor":
            self.floor = _evaluation(row)
        elif kind == "samples" and (number(row.get("sample_spread")) or 0) > DIVERSE_SPREAD:
            self._alike = ""  # recovered
        elif kind == "warning":
            if row.get("name") == "samples-alike":
                self._alike = _shown(row.get("text", ""))
            if len(self.warnings) < MAX_WARNINGS:
                self.warnings.append((step, _shown(row.get("text", ""))))
            else:
                self.more_warnings += 1

    def _take_step(self, row: dict[str, Any], step: int) -> None:
        self.steps = max(self.steps, step)
        self.images = max(self.images, int(number(row.get("images")) or 0))
        self.images_per_s = number(row.get("images_per_s")) or self.images_per_s
        epoch = row.get("epoch")
        if isinstance(epoch, int):
            self.epoch_ends[epoch] = step
        for key, value in row.items():
            measured = number(value)
            if key in _NOT_CURVES or measured is None:
                continue
            if key not in self.curves and len(self.curves) >= MAX_METRICS:
                continue
            steps, values = self.curves.setdefault(key, (array("d"), array("d")))
            steps.append(step)
            values.append(measured)


def _evaluation(row: dict[str, Any]) -> EvaluationRow:
    known = {key for key in row if key in METRICS}
    metrics = {key: value for key in row if key in known and (value := number(row[key])) is not None}
    errors = {key: value for key in metrics if (value := number(row.get(f"{key}{STANDARD_ERROR}"))) is not None}
    others = (key for key in row if key not in known | {"kind", "step"} and not key.endswith(STANDARD_ERROR))
    protocol = {key: _shown(row[key]) for key in others}
    return EvaluationRow(row["step"], metrics, dict(list(protocol.items())[:MAX_METRICS]), errors)


# Entries of a protocol that begin so belong to some metrics only.
_OF_METRICS: Final = {
    "swd_": ("sliced_wasserstein_distance", "sliced_wasserstein_distance_mmgeneration"),
    "ms_ssim_": ("ms_ssim", "ms_ssim_real"),
    "feature_": ("frechet_distance", "precision", "recall", "density", "coverage", "modes_covered", "modes_kl"),
    "precision_recall_": ("precision", "recall"),
    "density_coverage_": ("density", "coverage"),
    "inception_": ("inception_fid", "inception_kid"),
}
# What was drawn or measured, and does not make two metrics differ in kind.
_NOT_COMPARED: Final = {"seed", "levels", "levels_mmgeneration", "feature_accuracy", "feature_variance", "checkpoint"}


def compared_protocol(name: str, row: EvaluationRow) -> tuple[tuple[str, str], ...]:
    """What two evaluations must share for their values of a metric to be comparable: image size, numbers of images."""

    def belongs(entry: str) -> bool:
        metrics = next((metrics for begin, metrics in _OF_METRICS.items() if entry.startswith(begin)), (name,))
        return entry not in _NOT_COMPARED and name in metrics

    return tuple(sorted((entry, value) for entry, value in row.protocol.items() if belongs(entry)))


def number(value: object) -> float | None:
    """The value as a finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        real = float(value)
    except OverflowError:
        return None
    return real if math.isfinite(real) else None


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(each) for each in value[:20])
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:300]


def _samples(folder: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    if folder.is_dir():
        for path in folder.iterdir():
            match = _SAMPLE.fullmatch(path.name)
            if match and path.is_file() and len(found) < MAX_SAMPLES:
                found[int(match[1])] = path
    return dict(sorted(found.items()))
