"""The page about one run, or about several side by side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from trainer.report.page import Detail, Page, Picture, Strip, Table, TableCell, picture_of_file
from trainer.report.parts import (
    command_of,
    differing_settings,
    drawn_figures,
    explanations,
    heading_of,
    is_best_of,
    is_reference,
    metric_charts,
    metric_names,
    protocol_text,
    reference_of,
    settings_of,
    shown_path,
    shown_with_error,
    training_charts,
    warning_lines,
    without_places,
)
from trainer.report.record import RunRecord

SHOWN_MOMENTS = 6  # sample grids shown for one run
_ERRORS = "\N{PLUS-MINUS SIGN}: standard error over sets of as many images; it says nothing about other seeds."
_LINES = "Dashed lines: real or unchanged images. Bars: two standard errors."
SHARED_MOMENTS = (0.1, 0.25, 0.5, 1.0)  # moments at which runs are compared, as shares of their steps


def run_page(records: Sequence[RunRecord]) -> Page:
    """Builds the page."""
    groups = {record.name: [record] for record in records}
    names = [name for name in metric_names(records) if not is_reference(name)]
    single = records[0] if len(records) == 1 else None
    evaluations = [(_table_of_one(single, names) if single else _table(records, names))] if names else []
    charts = [Strip("Metrics", metric_charts(groups, names), f"{_LINES} {explanations(names)}")] if names else []
    return Page(
        title=f"Run {single.name}" if single else f"{len(records)} runs compared",
        lead=[_summary(record) for record in records],
        tables=[*differing_settings({record.name: record.config for record in records}), *evaluations],
        charts=charts,
        strips=[_samples_over_time(single)] if single else _samples_side_by_side(records),
        details=[_detail(record) for record in records],
    )


def _summary(record: RunRecord) -> str:
    config = without_places(record.config)
    speed = "" if record.images_per_s is None else f", {record.images_per_s:.4g} images/s"
    time = "" if record.train_seconds is None else f", {record.train_seconds:.0f} s of training"
    return (
        f"{record.name}: {config.model} ({config.preset}) on {config.dataset}, seed {config.seed};"
        f" {record.steps:,} steps of {config.batch_size}, {record.images:,} real images{speed}{time}."
    )


def _table_of_one(record: RunRecord, names: Sequence[str]) -> Table:
    """One row per metric: last, best, and what it is compared with."""
    last, best = record.last, record.best
    assert last is not None
    assert best is not None
    rows = []
    for name in names:
        texts = [heading_of(name), shown_with_error(name, last), shown_with_error(name, best), _reference(record, name)]
        rows.append([TableCell(text, is_number=number > 0) for number, text in enumerate(texts)])
    headings = [
        "metric",
        f"last (step {last.step:,})",
        f"best checkpoint (step {best.step:,})",
        "real images" if record.config.takes_latents else "unchanged",
    ]
    return Table("Evaluations", headings, rows, f"{_ERRORS} {protocol_text([record])}".strip())


def _table(records: Sequence[RunRecord], names: Sequence[str]) -> Table:
    """One row per run: each metric at the last and the best evaluation, and its reference below."""
    evaluated = [record for record in records if record.last is not None]
    chosen = {
        when: [(record, row) for record in evaluated if (row := getattr(record, when)) is not None]
        for when in ("last", "best")
    }
    rows = []
    for record in records:
        if record.last is None or record.best is None:
            rows.append([TableCell(f"{record.name}: no evaluation"), TableCell("-", columns=2 * len(names))])
            continue
        cells = [TableCell(f"{record.name} (steps {record.last.step:,}, {record.best.step:,})")]
        for name in names:
            for when, row in (("last", record.last), ("best", record.best)):
                is_best = is_best_of(name, record, row, chosen[when])
                cells.append(TableCell(shown_with_error(name, row), is_best=is_best, is_number=True))
        rows.append(cells)
    of_runs: dict[tuple[str, ...], list[str]] = {}
    for record in evaluated:
        of_runs.setdefault(tuple(_reference(record, name) for name in names), []).append(record.name)
    for texts, runs in of_runs.items():
        if any(text != "-" for text in texts):
            owners = ", ".join(runs) if len(runs) <= 2 else f"{runs[0]} and {len(runs) - 1} more"
            label = "reference" if len(of_runs) == 1 else f"reference of {owners}"
            rows.append([TableCell(label), *(TableCell(text, is_number=True, columns=2) for text in texts)])
    note = (
        f"Best: the evaluation of the best checkpoint. The best value of a column is marked among runs of one data set"
        f" and protocol. Reference: real or unchanged images. {_ERRORS} {protocol_text(records)}"
    )
    groups = [("", 1), *((heading_of(name), 2) for name in names)]
    return Table("Evaluations", ["run", *["last", "best"] * len(names)], rows, note.strip(), groups)


def _reference(record: RunRecord, name: str) -> str:
    found = reference_of(record, name)
    return "-" if found is None else shown_with_error(found[2], found[1])


def _samples_over_time(record: RunRecord) -> Strip:
    steps = list(record.samples)
    count = min(SHOWN_MOMENTS, len(steps))
    chosen = [steps[round(index * (len(steps) - 1) / max(1, count - 1))] for index in range(count)]
    pictures = [picture_of_file(record.samples[step], f"step {step:,}") for step in dict.fromkeys(chosen)]
    return Strip("The same inputs over time", pictures or [Picture("samples", missing="no samples yet")])


def _samples_side_by_side(records: Sequence[RunRecord]) -> list[Strip]:
    strips = []
    for share in SHARED_MOMENTS:
        pictures = []
        for record in records:
            step = record.sample_at_step(round(share * max(record.samples, default=0)))
            caption = record.name if step is None else f"{record.name}, step {step:,}"
            pictures.append(picture_of_file(None if step is None else record.samples[step], caption))
        strips.append(Strip("At the end" if share == 1 else f"After {share:.0%} of the steps", pictures))
    return strips


def _detail(record: RunRecord) -> Detail:
    command, note = command_of(record.config)
    run = shown_path(record.path)
    return Detail(
        title=record.name,
        lines=[_summary(record)],
        warnings=warning_lines(record),
        pictures=[*training_charts([record]), *drawn_figures(record)],
        settings=settings_of(record.config),
        commands=[
            (f"Train the same run{f' ({note})' if note else ''}:", command),
            ("Resume it:", shlex.join(["python", "-m", "trainer", "--resume", run])),
            ("Export it:", shlex.join(["python", "-m", "exporter", run])),
        ],
    )
