"""Runs a sweep: a spec -> trials -> a report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from ganserve.machine import limit_torch_threads
from ganserve.wording import counted
from trainer.config import AnyConfig
from trainer.data.datasets import is_own
from trainer.errors import UserError
from trainer.exits import EXIT_INTERRUPTED, StopOnSignal, mistakes_in_one_line
from trainer.models import shown_size
from trainer.progress import Progress
from trainer.report.parts import shown_path
from trainer.settings import parse_setting
from trainer.sweep.folder import SweepFolder
from trainer.sweep.grid import Cell, cells_of
from trainer.sweep.results import print_results
from trainer.sweep.spec import Spec, quick_form, read_spec, with_settings
from trainer.sweep.sweep_page import write_report
from trainer.sweep.trials import SharedData, Trials

# Training images of the data sets by name: a dry run converts epochs to images without decoding the data.
KNOWN_IMAGES = {
    "digits": 1_797,
    "mnist": 60_000,
    "fashion-mnist": 60_000,
    "stacked-mnist": 128_000,
    "cifar10": 50_000,
    "celeba": 202_599,
}


def run(spec: Path, flags: dict[str, Any]) -> None:
    """Trains what is missing of a spec and writes the report; `flags` are those of the command line."""
    progress = Progress()
    with mistakes_in_one_line("interrupted; the same command continues"):
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise UserError("--nproc-per-node: a sweep runs in one process; start it without torchrun")
        resolved = _resolve(spec, flags)
        cells = cells_of(resolved)
        wanted = cells[: flags["limit"]]
        _print_grid(resolved, cells, progress)
        if flags["dry_run"]:
            return
        limit_torch_threads()
        out = flags["out"] or Path("runs") / "sweeps" / (spec.stem + ("-quick" if resolved.is_quick else ""))
        if not _run(
            resolved, cells, wanted, out, _command(spec, out, flags), progress, report_only=flags["report_only"]
        ):
            progress.say("interrupted and saved; the same command continues")
            sys.exit(EXIT_INTERRUPTED)


def _resolve(path: Path, flags: dict[str, Any]) -> Spec:
    spec = read_spec(path)
    if flags["quick"]:
        spec = quick_form(spec)
    settings = dict(parse_setting(text) for text in flags["settings"])
    if flags["data_root"] is not None:
        settings["data_root"] = flags["data_root"]
    return with_settings(spec, settings)


def _command(spec: Path, out: Path, flags: dict[str, Any]) -> list[str]:
    """The command that runs or continues the whole sweep, for a page that may be shown to others."""
    words = ["python", "-m", "trainer.sweep", shown_path(spec), "--out", shown_path(out)]
    words += ["--quick"] if flags["quick"] else []
    words += [word for setting in flags["settings"] for word in ("--set", _without_place(setting))]
    return words + (["--data-root", shown_path(flags["data_root"])] if flags["data_root"] is not None else [])


def _without_place(setting: str) -> str:
    """KEY=VALUE with the name of a file or folder only; of a data set folder:PATH, or of a plain path."""
    key, equals, value = setting.partition("=")
    kind, colon, path = value.partition(":")
    return f"{key}{equals}{kind}{colon}{shown_path(path)}" if colon else f"{key}{equals}{shown_path(value)}"


def _run(
    spec: Spec,
    cells: list[Cell],
    wanted: list[Cell],
    out: Path,
    command: list[str],
    progress: Progress,
    *,
    report_only: bool,
) -> bool:
    """Trains missing trials and writes the report; returns whether all wanted trials have ended."""
    folder = SweepFolder(out)
    if report_only and not folder.spec_path.is_file():
        raise UserError(f"--report-only: no sweep in {out}; give its folder with --out")
    ended = True
    with folder.locked():
        folder.claim(spec)
        if not report_only:
            data = SharedData(progress)
            for cell in wanted:  # before the first trial, so that an error does not appear hours later
                try:
                    data.of(cell.config)
                except UserError as error:
                    raise UserError(f"cell {cell.name}: {error}{_remedy(cell.config)}") from error
            with StopOnSignal() as stop:
                ended = Trials(folder, spec, data, progress, stop).run(wanted)
        results = write_report(folder, spec, cells, command, progress)
    print_results(results, progress)
    progress.say(f"report: {out / 'report.html'}; metrics: {out / 'trials.csv'} and {out / 'cells.csv'}")
    return ended


def _remedy(config: AnyConfig) -> str:
    is_lost = is_own(config.dataset) and not Path(config.dataset.partition(":")[2]).exists()
    return "; if it has moved, say where it is with --set dataset=PATH" if is_lost else ""


def _print_grid(spec: Spec, cells: list[Cell], progress: Progress) -> None:
    """Prints the cells and the number of images that they train on."""
    table = Table(title=spec.title + (" (quick form)" if spec.is_quick else ""))
    for heading in ("cell", "model", "preset", "data", "size", "batch", "length", "images per seed"):
        table.add_column(heading, overflow="fold")
    total: int | None = 0
    for cell in cells:
        config = cell.config
        images = estimated_images(config)
        total = None if images is None or total is None else total + images * len(spec.seeds)
        table.add_row(
            cell.name,
            config.model,
            config.preset,
            config.dataset,
            shown_size(config.network.size),
            str(config.batch_size),
            _length(config),
            "-" if images is None else f"{images:,}",
        )
    progress.console.print(table)
    trials = len(cells) * len(spec.seeds)
    shown = "" if total is None else f", about {total:,} images in total"
    progress.say(
        f"{counted(len(cells), 'cell')}, {counted(len(spec.seeds), 'seed')}: {counted(trials, 'trial')}{shown}"
    )


def estimated_images(config: AnyConfig) -> int | None:
    """Real images that a run trains on; None if that depends on the data set."""
    if config.images is not None:
        return config.images
    if config.steps is not None:
        return config.steps * config.batch_size
    known = KNOWN_IMAGES.get(config.dataset) if config.takes_latents else None
    return None if known is None else (config.epochs or 0) * known


def _length(config: AnyConfig) -> str:
    for unit in ("epochs", "steps", "images"):
        count = getattr(config, unit)
        if count is not None:
            return f"{count:,} {unit if count != 1 else unit[:-1]}"
    return "-"
