"""The results of a sweep: its trials read back from disk, summarised over seeds, and written as CSV.

trials.csv has one row per trial, cells.csv one row per cell and metric, both in full precision.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.markup import escape
from rich.table import Table as RichTable

from ganserve.metrics import METRICS
from ganserve.wording import counted
from trainer.metrics.choosing import is_best
from trainer.progress import Progress
from trainer.report.parts import label_of, metric_names, shown_metric
from trainer.report.record import EvaluationRow, RunRecord, compared_protocol, read_record
from trainer.sweep.folder import SweepFolder
from trainer.sweep.grid import Cell
from trainer.sweep.spec import Spec

WHENS = ("end", "best")  # the last evaluation, and that of the best checkpoint; a spec may add moments
_SHOWN_WARNINGS = 10  # in the terminal


@dataclass(frozen=True)
class TrialResult:
    """One trial."""

    cell: Cell
    seed: int
    outcome: str
    text: str  # why it failed; empty if it did not
    record: RunRecord | None  # None: not started

    def evaluation(self, when: str) -> EvaluationRow | None:
        """The last evaluation of a finished run, the best one, or the newest at a moment such as "epoch 10"."""
        if self.record is None:
            return None
        if when == "best":
            return self.record.best
        if when == "end":
            return self.record.last if self.outcome == "finished" else None
        step = self.sample_step(when)
        rows = [row for row in self.record.evaluations if step is not None and row.step <= step]
        return rows[-1] if rows else None

    @property
    def collapse(self) -> str:
        """Why its samples count as collapsed; empty if they do not."""
        return self.record.collapse if self.record else ""

    def sample_step(self, when: str) -> int | None:
        """The step of the sample grid at the end or at a moment; None if the run has no such grid."""
        if self.record is None or not self.record.samples:
            return None
        unit, _, number = when.partition(" ")
        if unit == "epoch":
            return self.record.sample_at_epoch(int(number))
        return self.record.sample_at_step(int(number)) if unit == "step" else max(self.record.samples)


@dataclass(frozen=True)
class Summary:
    """A metric summarised over the seeds of a cell."""

    count: int
    mean: float
    deviation: float | None  # sample standard deviation; None for one seed
    is_best: bool = False


@dataclass(frozen=True)
class Results:
    """All trials of a sweep."""

    spec: Spec
    cells: Sequence[Cell]
    trials: Sequence[TrialResult]
    folder: Path
    command: str
    metrics: Sequence[str] = field(default_factory=tuple)

    @property
    def moments(self) -> list[str]:
        """The moments of the spec, such as "epoch 10" and "step 400"."""
        spec = self.spec
        return [f"epoch {count}" for count in spec.show_at_epochs] + [f"step {count}" for count in spec.show_at_steps]

    def of(self, cell: Cell) -> list[TrialResult]:
        """The trials of a cell, in the order of the seeds."""
        return [trial for trial in self.trials if trial.cell is cell]

    def summary(self, cell: Cell, metric: str, when: str) -> Summary | None:
        """A metric of a cell; None if no trial has it."""
        values = self._values(cell, metric, when)
        mean = _mean(values)
        if mean is None:
            return None
        protocols = self._protocols(cell, metric, when)
        alike = [each for each in self.cells if self._protocols(each, metric, when) == protocols]
        others = [other for each in alike if (other := _mean(self._values(each, metric, when))) is not None]
        best = len(protocols) == 1 and len(others) > 1 and is_best(metric, mean, others)
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return Summary(len(values), mean, deviation, best)

    def _protocols(self, cell: Cell, metric: str, when: str) -> set[object]:
        """The data sets and protocols of a cell's values of a metric; only values of one protocol are comparable."""
        rows = [(trial.record, trial.evaluation(when)) for trial in self.of(cell)]
        return {
            (record.config.dataset, compared_protocol(metric, row))
            for record, row in rows
            if record is not None and row is not None and metric in row.metrics
        }

    def _values(self, cell: Cell, metric: str, when: str) -> list[float]:
        rows = [trial.evaluation(when) for trial in self.of(cell)]
        return [row.metrics[metric] for row in rows if row is not None and metric in row.metrics]


def read_results(folder: SweepFolder, spec: Spec, cells: Sequence[Cell], command: str, progress: Progress) -> Results:
    """Reads the trials that exist on disk."""
    endings = folder.endings()
    trials = []
    for cell, seed in progress.track([(cell, seed) for cell in cells for seed in spec.seeds], "reading trials"):
        run = folder.run_of(cell, seed)
        record = None if run is None else read_record(run.path, f"{cell.name}, seed {seed}")
        ending = endings.get((cell.name, seed))
        outcome = ending.outcome if ending else "not begun" if record is None else "not finished"
        trials.append(TrialResult(cell, seed, outcome, ending.text if ending else "", record))
    places = (f"{folder.path.absolute()}/", f"{folder.path}/")
    trials = [replace(trial, text=trial.text.replace(places[0], "").replace(places[1], "")) for trial in trials]
    names = metric_names([trial.record for trial in trials if trial.record is not None], spec.measures)
    return Results(spec, cells, trials, folder.path, command, names)


def trials_csv(results: Results) -> str:
    """One row per trial: axes, outcome, speed, and every metric at the end and at the best evaluation."""
    axes = list(results.spec.axes)
    names = [f"{when}_{name}" for when in WHENS for name in ("step", *results.metrics)]
    rows: list[list[object]] = [
        ["cell", *axes, "seed", "outcome", "run", "steps", "images", "images_per_s", "train_seconds", *names]
    ]
    for trial in results.trials:
        varied, record = dict(trial.cell.varied), trial.record
        row: list[object] = [trial.cell.name, *(varied.get(axis, "") for axis in axes), trial.seed, trial.outcome]
        if record is None:
            row += [""] * 5
        else:
            run = record.path.relative_to(results.folder).as_posix()
            row += [run, record.steps, record.images, record.images_per_s, record.train_seconds]
        for when in WHENS:
            found = trial.evaluation(when)
            row += [""] * (1 + len(results.metrics)) if found is None else _metrics_row(found, results.metrics)
        rows.append(row)
    return _csv(rows)


def cells_csv(results: Results) -> str:
    """One row per cell and metric: number of seeds, mean, sample standard deviation, whether the cell is best."""
    rows: list[list[object]] = [["cell", "metric", "better", "when", "seeds", "mean", "standard_deviation", "best"]]
    for cell in results.cells:
        for name in results.metrics:
            for when in (*WHENS, *results.moments):
                found = results.summary(cell, name, when)
                if found is not None:
                    spread = "" if found.deviation is None else found.deviation
                    better = metric.better if (metric := METRICS.get(name)) else ""
                    rows.append([cell.name, name, better, when, found.count, found.mean, spread, found.is_best])
    return _csv(rows)


def print_results(results: Results, progress: Progress) -> None:
    """Prints how the trials ended, the metrics at the end (mean and standard deviation over seeds), and warnings."""
    trials_table = RichTable(title="Trials")
    for heading in ("cell", "ended", "images/s"):
        trials_table.add_column(heading, overflow="fold")
    for cell in results.cells:
        trials = results.of(cell)
        finished = sum(trial.outcome == "finished" for trial in trials)
        failed = [trial.outcome for trial in trials if trial.text]
        collapsed = sum(bool(trial.collapse) for trial in trials)
        failed += [f"{collapsed} collapsed"] if collapsed else []
        state = f"{finished} of {len(trials)}" + "".join(f", {outcome}" for outcome in failed)
        speed = speed_of(trials)
        trials_table.add_row(escape(cell.name), state, "-" if speed is None else f"{speed:.4g}")
    progress.console.print(trials_table)
    # A row per metric and cell: a column per metric does not fit into a terminal.
    table = RichTable(title="At the end: mean \N{PLUS-MINUS SIGN} standard deviation over seeds; * is the best cell")
    for heading in ("metric", "cell", "value", "better"):
        table.add_column(heading, overflow="fold")
    for name in results.metrics:
        found = [(cell, results.summary(cell, name, "end")) for cell in results.cells]
        for row, (cell, summary) in enumerate((cell, summary) for cell, summary in found if summary is not None):
            value = shown_summary(name, summary, mark=True, seeds=len(results.of(cell)))
            headings = (label_of(name), METRICS[name].better if name in METRICS else "")
            table.add_row(headings[0] if row == 0 else "", escape(cell.name), value, headings[1] if row == 0 else "")
        table.add_section()
    progress.console.print(table)
    warnings = [
        f"warning: {cell.name}, seed {trial.seed}, step {step:,}: {text}"
        for cell in results.cells
        for trial in results.of(cell)
        for step, text in (trial.record.warnings if trial.record else [])
    ]
    for line in warnings[:_SHOWN_WARNINGS]:
        progress.say(line)
    if len(warnings) > _SHOWN_WARNINGS:
        progress.say(f"{counted(len(warnings) - _SHOWN_WARNINGS, 'more warning')}: see the report")


def shown_summary(name: str, found: Summary | None, *, mark: bool = False, seeds: int = 0) -> str:
    """A summary as text: 12.34 +- 0.56 (n 3); without n if that is the number of seeds."""
    if found is None:
        return "-"
    count = "" if found.count == seeds else f" (n {found.count})"
    spread = "" if found.deviation is None else f" \N{PLUS-MINUS SIGN} {shown_metric(name, found.deviation)}"
    return f"{shown_metric(name, found.mean)}{spread}{count}{' *' if mark and found.is_best else ''}"


def speed_of(trials: Sequence[TrialResult]) -> float | None:
    """Mean training speed of some trials, in real images per second."""
    return _mean([speed for trial in trials if trial.record and (speed := trial.record.images_per_s) is not None])


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _metrics_row(found: EvaluationRow, names: Sequence[str]) -> list[object]:
    return [found.step, *(found.metrics.get(name, "") for name in names)]


def _csv(rows: Sequence[Sequence[object]]) -> str:
    """CSV with floats as repr, which is exact."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in rows:
        writer.writerow(["" if value is None else repr(value) if isinstance(value, float) else value for value in row])
    return buffer.getvalue()
