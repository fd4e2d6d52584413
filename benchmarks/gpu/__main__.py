"""One stage, as benchmarks.gpu_day starts it: `python -m benchmarks.gpu STAGE --work DIR --data DIR --limit-s S`."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

import click

from benchmarks.gpu.record import Record
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.stages import STAGES

RECORD_FILE = "record.json"


@click.command()
@click.argument("name", type=click.Choice(list(STAGES)))
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--limit-s", type=float, required=True)
@click.option("--restarts", is_flag=True, help="Exit with 75 after a failed measurement.")
@click.option("--measurements", "most", type=int, help="Make only the first measurements, at most this many.")
@click.option("--dry-run", "is_dry", is_flag=True)
def main(name: str, work: Path, data: Path, limit_s: float, *, restarts: bool, most: int | None, is_dry: bool) -> None:
    """Makes the measurements of a stage."""
    work.mkdir(parents=True, exist_ok=True)
    settings = Settings(work.absolute(), data.absolute(), time.monotonic() + limit_s, is_dry)
    record = Record(work / RECORD_FILE, lambda: settings.left_s, restarts=restarts, most=most)
    importlib.import_module(STAGES[name].module).run(settings, record)


if __name__ == "__main__":
    main()
