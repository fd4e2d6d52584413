"""The page of a sweep: its cells side by side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ganserve.files import replace_file
from trainer.progress import Progress
from trainer.report.page import Detail, Page, Strip, Table, TableCell, picture_of_file, write_page
from trainer.report.parts import (
    command_of,
    drawn_figures,
    explanations,
    heading_of,
    metric_charts,
    protocol_text,
    settings_of,
    training_charts,
    warning_lines,
)
from trainer.report.record import RunRecord
from trainer.sweep.folder import SweepFolder
from trainer.sweep.grid import Cell
from trainer.sweep.results import Results, TrialResult, cells_csv, read_results, shown_summary, speed_of, trials_csv
from trainer.sweep.spec import Spec

_QUICK = "Quick form: scaled down to run in minutes. It shows that the sweep works and nothing more."
_READING = (
    "Mean \N{PLUS-MINUS SIGN} sample standard deviation over seeds (n trials). The best mean of a column is marked."
    " With few seeds, a better mean does not prove a difference."
)


def sweep_page(results: Results) -> Page:
    """Builds the page."""
    spec = results.spec
    records = _records(results.trials)
    groups = {cell.name: _records(results.of(cell)) for cell in results.cells}
    seeds = f"{len(spec.seeds)} seed{'s' if len(spec.seeds) > 1 else ''} ({', '.join(map(str, spec.seeds))})"
    charts = []
    if results.metrics:
        pictures = metric_charts(groups, results.metrics)
        charts = [
            Strip(
                "Metrics over steps",
                pictures,
                f"Lines are means over seeds, bands their range. {explanations(results.metrics)}",
            )
        ]
    return Page(
        title=spec.title,
        label=_QUICK if spec.is_quick else "",
        lead=[
            *([spec.reproduces] if spec.reproduces else []),
            f"{len(results.cells)} cells, {seeds}, trained on {_data(results)}.",
            f"To run or continue the sweep: {results.command}",
        ],
        tables=[*_metrics_tables(results), _trials_table(results)],
        charts=charts,
        strips=_samples(results),
        details=[_detail(cell, results.of(cell)) for cell in results.cells if records],
    )


def _data(results: Results) -> str:
    """The data sets and sizes of the cells."""
    configs = [cell.config for cell in results.cells]
    sizes = (f"{config.dataset} at {config.network.image_size}x{config.network.image_size}" for config in configs)
    return " and ".join(dict.fromkeys(sizes))


def _metrics_table(results: Results, title: str, whens: Sequence[str], note: str) -> Table:
    headings = ["cell", *map(heading_of, results.metrics)]
    rows = []
    for when in whens:
        for cell in results.cells:
            row = [TableCell(f"{cell.name}, {when}" if when in results.moments else cell.name)]
            for name in results.metrics:
                found = results.summary(cell, name, when)
                best = found is not None and found.is_best
                row.append(TableCell(shown_summary(name, found), is_number=True, is_best=best))
            rows.append(row)
    return Table(title, headings, rows, note)


def _metrics_tables(results: Results) -> list[Table]:
    if not results.metrics:
        return []
    protocol = protocol_text(_records(results.trials))
    note = f"{_READING} Failed trials are left out. {protocol}".strip()
    tables = [
        _metrics_table(results, "At the end", ["end"], note),
        _metrics_table(results, "At the best evaluation", ["best"], "Each trial at its best checkpoint."),
    ]
    if results.moments:
        note = "The newest evaluation at each moment."
        tables.append(_metrics_table(results, "At the moments shown below", results.moments, note))
    return tables


def _trials_table(results: Results) -> Table:
    rows = []
    for cell in results.cells:
        for trial in results.of(cell):
            record = trial.record
            row = [cell.name, str(trial.seed), trial.outcome + (f": {trial.text}" if trial.text else "")]
            if record is None:
                row += ["-"] * 5
            else:
                speed, seconds = record.images_per_s, record.train_seconds
                row += [f"{record.steps:,}", f"{record.images:,}", "-" if speed is None else f"{speed:.4g}"]
                row += ["-" if seconds is None else f"{seconds:.0f}", str(len(record.warnings) + record.more_warnings)]
            rows.append([TableCell(text, is_number=index > 2) for index, text in enumerate(row)])
    headings = ("cell", "seed", "outcome", "steps", "real images", "images/s", "time (s)", "warnings")
    return Table("Trials", headings, rows, "Speed and time depend on the machine.")


def _samples(results: Results) -> list[Strip]:
    """Sample grids of the first seed side by side, at the moments of the spec and at the end."""
    strips = []
    for when in [*results.moments, "end"]:
        pictures = []
        for cell in results.cells:
            trial = results.of(cell)[0]
            step = trial.sample_step(when)
            caption = cell.name if step is None else f"{cell.name} (step {step:,})"
            path = None if trial.record is None or step is None else trial.record.samples[step]
            pictures.append(picture_of_file(path, caption))
        title = "At the end" if when == "end" else f"At {when}"
        strips.append(Strip(title, pictures, f"Seed {results.spec.seeds[0]}."))
    return strips


def _detail(cell: Cell, trials: Sequence[TrialResult]) -> Detail:
    records = _records(trials)
    pictures = training_charts(records)
    speed = speed_of(trials)
    config = records[0].config if records else cell.config
    if records:
        pictures += drawn_figures(records[0], f", seed {config.seed}")
    command, note = command_of(config)
    lines = ["Thin lines are seeds, thick lines their running means."] if pictures else []
    if speed is not None:
        lines.append(f"{speed:.4g} images/s.")
    return Detail(
        title=cell.name,
        lines=lines,
        warnings=[
            *(f"seed {trial.seed}: {trial.outcome}: {trial.text}" for trial in trials if trial.text),
            *(line for record in records for line in warning_lines(record)),
        ],
        pictures=pictures,
        settings=settings_of(config),
        commands=[
            (f"Train only its first seed{f' ({note})' if note else ''}:", command),
            *(
                (f"Export seed {record.config.seed}:", shlex.join(["python", "-m", "exporter", str(record.path)]))
                for record in records[:1]
            ),
        ],
    )


def _records(trials: Sequence[TrialResult]) -> list[RunRecord]:
    return [trial.record for trial in trials if trial.record is not None]


def write_report(
    folder: SweepFolder, spec: Spec, cells: Sequence[Cell], command: Sequence[str], progress: Progress
) -> Results:
    """Writes report.html, trials.csv and cells.csv, and returns their content."""
    results = read_results(folder, spec, cells, shlex.join(command), progress)
    replace_file(folder.path / "trials.csv", trials_csv(results).encode())
    replace_file(folder.path / "cells.csv", cells_csv(results).encode())
    write_page(sweep_page(results), folder.path / "report.html")
    return results
