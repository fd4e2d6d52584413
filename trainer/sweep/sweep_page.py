"""The page of a sweep: its cells side by side."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from ganserve.files import replace_file
from ganserve.wording import counted
from trainer.models import shown_size
from trainer.progress import Progress
from trainer.report.page import Detail, Page, Strip, Table, TableCell, picture_of_file, write_page
from trainer.report.parts import (
    command_of,
    differing_settings,
    drawn_figures,
    explanations,
    heading_of,
    is_reference,
    metric_charts,
    protocol_text,
    reference_lines,
    settings_of,
    shown_metric,
    shown_path,
    training_charts,
    warning_lines,
    without_places,
)
from trainer.report.record import RunRecord
from trainer.sweep.folder import SweepFolder
from trainer.sweep.grid import Cell
from trainer.sweep.results import Results, TrialResult, cells_csv, read_results, shown_summary, speed_of, trials_csv
from trainer.sweep.spec import Spec

_QUICK = "Quick form: scaled down to run in minutes. It shows that the sweep works and nothing more."
_END_AND_BEST = {"end": "end", "best": "best"}
_READING = (
    "Mean \N{PLUS-MINUS SIGN} sample standard deviation over seeds. The best mean of a column is marked among cells of"
    " one data set and protocol. With few seeds, a better mean does not prove a difference."
)


def sweep_page(results: Results) -> Page:
    """Builds the page."""
    spec = results.spec
    records = _records(results.trials)
    groups = {cell.name: _records(results.of(cell)) for cell in results.cells}
    seeds = f"{counted(len(spec.seeds), 'seed')} ({', '.join(map(str, spec.seeds))})"
    charts = []
    names = _own_metrics(results)
    if names:
        text = "Lines are means over seeds, bands their range; dashed lines are real or unchanged images."
        charts = [Strip("Metrics", metric_charts(groups, names), f"{text} {explanations(names)}")]
    return Page(
        title=spec.title,
        label=_QUICK if spec.is_quick else "",
        lead=[
            *([spec.reproduces] if spec.reproduces else []),
            f"{counted(len(results.cells), 'cell')}, {seeds}, trained on {_data(results)}.",
            *_collapses(results),
            f"To run or continue the sweep: {results.command}",
        ],
        tables=[
            *differing_settings({cell.name: cell.config for cell in results.cells}),
            *_metrics_tables(results),
            _trials_table(results),
        ],
        charts=charts,
        strips=_samples(results),
        details=[_detail(cell, results.of(cell)) for cell in results.cells if records],
    )


def _data(results: Results) -> str:
    """The data sets and sizes of the cells."""
    configs = [without_places(cell.config) for cell in results.cells]
    sizes = (f"{config.dataset} at {shown_size(config.network.size)}" for config in configs)
    return " and ".join(dict.fromkeys(sizes))


def _own_metrics(results: Results) -> list[str]:
    """The metrics that depend on the generator."""
    return [name for name in results.metrics if not is_reference(name)]


def _collapses(results: Results) -> list[str]:
    """One line that names the trials whose samples have collapsed; none if there are none."""
    found = [f"{trial.cell.name} (seed {trial.seed})" for trial in results.trials if trial.collapse]
    return [f"Collapsed: {', '.join(found)}. Their metrics count in the means below."] if found else []


def _metrics_table(results: Results, title: str, whens: Mapping[str, str], note: str) -> Table:
    """One row per cell; each metric at several moments side by side, and its reference below."""
    names, seeds = _own_metrics(results), len(results.spec.seeds)
    rows = []
    for cell in results.cells:
        collapsed = sum(bool(trial.collapse) for trial in results.of(cell))
        label = f"{cell.name} ({collapsed} of {len(results.of(cell))} collapsed)" if collapsed else cell.name
        row = [TableCell(label, is_warning=collapsed > 0)]
        for name in names:
            for when in whens:
                found = results.summary(cell, name, when)
                best = found is not None and found.is_best
                row.append(TableCell(shown_summary(name, found, seeds=seeds), is_number=True, is_best=best))
        rows.append(row)
    references = [reference_lines(_records(results.trials), name) for name in names]
    if any(references):
        texts = [
            shown_metric(name, next(iter(found.values()))) if found else "-"
            for name, found in zip(names, references, strict=True)
        ]
        cells = [TableCell(text, is_number=True, columns=len(whens)) for text in texts]
        labels = dict.fromkeys(label for found in references for label in found)
        rows.append([TableCell(" or ".join(labels)), *cells])
    groups = [("", 1), *((heading_of(name), len(whens)) for name in names)]
    return Table(title, ["cell", *[*whens.values()] * len(names)], rows, note, groups)


def _metrics_tables(results: Results) -> list[Table]:
    if not results.metrics:
        return []
    protocol = protocol_text(_records(results.trials))
    note = (
        f"{_READING} End: finished trials only. Best: each trial at its best checkpoint. n: trials, if not one per"
        f" seed. {protocol}"
    )
    tables = [_metrics_table(results, "Metrics at the end and at the best evaluation", _END_AND_BEST, note.strip())]
    if results.moments:
        note = "The newest evaluation at each moment."
        moments = {moment: moment for moment in results.moments}
        tables.append(_metrics_table(results, "At the moments shown below", moments, note))
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
            row[2] += ", collapsed" if trial.collapse else ""
            flag = bool(trial.collapse or trial.text)
            rows.append(
                [TableCell(text, is_number=index > 2, is_warning=flag and index == 2) for index, text in enumerate(row)]
            )
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
    exported = [(record, shlex.quote(shown_path(record.path))) for record in records[:1]]
    lines = ["Thin lines are seeds, thick lines their running means."] if pictures else []
    if speed is not None:
        lines.append(f"{speed:.4g} images/s.")
    return Detail(
        title=cell.name,
        lines=lines,
        warnings=[
            *(f"seed {trial.seed}: {trial.outcome}: {trial.text}" for trial in trials if trial.text),
            *(f"seed {trial.seed}: collapsed: {trial.collapse}" for trial in trials if _is_new(trial)),
            *(line for record in records for line in warning_lines(record)),
        ],
        pictures=pictures,
        settings=settings_of(config),
        commands=[
            (f"Train only its first seed{f' ({note})' if note else ''}:", command),
            *((f"Export seed {record.config.seed}:", f"python -m exporter {run}") for record, run in exported),
        ],
    )


def _is_new(trial: TrialResult) -> bool:
    """Whether a trial has collapsed and its own warnings do not say so, as those of older versions."""
    warnings = trial.record.warnings if trial.record else []
    return bool(trial.collapse) and all(text != trial.collapse for _, text in warnings)


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
