"""The page about one run, or about several side by side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from trainer.metrics.choosing import is_best
from trainer.report.page import Detail, Page, Picture, Strip, Table, TableCell, picture_of_file
from trainer.report.parts import (
    command_of,
    drawn_figures,
    explanations,
    heading_of,
    metric_charts,
    metric_names,
    protocol_text,
    settings_of,
    shown_metric,
    training_charts,
    warning_lines,
)
from trainer.report.record import RunRecord

SHOWN_MOMENTS = 6  # sample grids shown for one run
SHARED_MOMENTS = (0.1, 0.25, 0.5, 1.0)  # moments at which runs are compared, as shares of their steps


def run_page(records: Sequence[RunRecord]) -> Page:
    """Builds the page."""
    groups = {record.name: [record] for record in records}
    names = metric_names(records)
    single = records[0] if len(records) == 1 else None
    charts = [Strip("Metrics over steps", metric_charts(groups, names), explanations(names))] if names else []
    return Page(
        title=f"Run {single.name}" if single else f"{len(records)} runs compared",
        lead=[_summary(record) for record in records],
        tables=[_table(records, names)] if names else [],
        charts=charts,
        strips=[_samples_over_time(single)] if single else _samples_side_by_side(records),
        details=[_detail(record) for record in records],
    )


def _summary(record: RunRecord) -> str:
    config = record.config
    speed = "" if record.images_per_s is None else f", {record.images_per_s:.4g} images/s"
    time = "" if record.train_seconds is None else f", {record.train_seconds:.0f} s of training"
    return (
        f"{record.name}: {config.model} ({config.preset}) on {config.dataset}, seed {config.seed};"
        f" {record.steps:,} steps of {config.batch_size}, {record.images:,} real images{speed}{time}."
    )


def _table(records: Sequence[RunRecord], names: Sequence[str]) -> Table:
    headings = ["run", *map(heading_of, names)]
    rows = []
    for when in ("last", "best"):
        chosen = [record.last if when == "last" else record.best for record in records]
        for record, row in zip(records, chosen, strict=True):
            if row is None:
                rows.append(
                    [TableCell(f"{record.name}: no evaluation"), *[TableCell("-", is_number=True)] * len(names)]
                )
                continue
            cells = [TableCell(f"{record.name}, {when} (step {row.step:,})")]
            for name in names:
                value = row.metrics.get(name)
                others = [other.metrics[name] for other in chosen if other is not None and name in other.metrics]
                cells.append(
                    TableCell(
                        "-" if value is None else shown_metric(name, value),
                        is_number=True,
                        is_best=value is not None and len(others) > 1 and is_best(name, value, others),
                    )
                )
            rows.append(cells)
    for record in records:
        if (floor := record.floor) is not None:
            values = [floor.metrics.get(name) for name in names]
            rows.append(
                [
                    TableCell(
                        f"{record.name}: {floor.protocol.get('real_images', '?')} real images and as many others"
                    ),
                    *(
                        TableCell("-" if value is None else shown_metric(name, value), is_number=True)
                        for name, value in zip(names, values, strict=True)
                    ),
                ]
            )
    note = "Best: the evaluation of the best checkpoint. " + protocol_text(records)
    return Table("Evaluations", headings, rows, note.strip())


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
    run = str(record.path)
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
