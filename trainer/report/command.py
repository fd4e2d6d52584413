"""Writes one page about run folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.table import Table

from ganserve.metrics import METRICS
from trainer.errors import UserError
from trainer.exits import mistakes_in_one_line
from trainer.progress import Progress
from trainer.report.page import write_page
from trainer.report.record import RunRecord, read_record
from trainer.report.runs import run_page

MAX_RUNS = 64


def run(runs: tuple[Path, ...], out: Path) -> None:
    """Writes the page about some runs, and prints what it has."""
    progress = Progress()
    with mistakes_in_one_line("interrupted; nothing was written"):
        if not runs:
            raise UserError("RUN is missing: give one or more run folders, such as runs/0001-dcgan-digits")
        if len(runs) > MAX_RUNS:
            raise UserError(f"RUN: {len(runs)} runs are too many; give at most {MAX_RUNS}")
        if not out.absolute().parent.is_dir():
            raise UserError(f"--out {out}: no such folder: {out.parent}; create it first")
        records = [read_record(path, name) for path, name in progress.track(_named(runs), "reading runs")]
        write_page(run_page(records), out)
        _print(records, progress)
        progress.say(f"report: {out}")


def _named(runs: tuple[Path, ...]) -> list[tuple[Path, str]]:
    """Each run with a unique name: its folder's, preceded by its parents' where two are equal."""
    resolved = [path.resolve() for path in runs]
    if len(set(resolved)) < len(resolved):
        raise UserError("RUN: the same run occurs twice; give each once")
    counts = Counter(path.name for path in resolved)
    return [
        (
            path,
            there.name if counts[there.name] == 1 else f"{there.parent.parent.name}/{there.parent.name}/{there.name}",
        )
        for path, there in zip(runs, resolved, strict=True)
    ]


def _print(records: list[RunRecord], progress: Progress) -> None:
    table = Table(title="Runs in the report", title_justify="left", box=None, pad_edge=False)
    for heading in ("run", "preset", "steps", "warnings", "metric", "last", "best"):
        table.add_column(
            heading, overflow="fold", justify="left" if heading in {"run", "preset", "metric"} else "right"
        )
    for record in records:
        score, last, best = record.score_name, record.last, record.best
        table.add_row(
            record.name,
            record.config.preset,
            f"{record.steps:,}",
            str(len(record.warnings) + record.more_warnings),
            METRICS[score].label if score else "-",
            "-" if score is None or last is None else f"{last.metrics[score]:.4g}",
            "-" if score is None or best is None else f"{best.metrics[score]:.4g}",
        )
    progress.console.print(table)
