"""`python -m trainer.sweep`: the command line. The work is in command.py, which imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ganserve.command_line import OneLineErrors, version_option


@click.command(cls=OneLineErrors, context_settings={"max_content_width": 100, "show_default": True})
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the sweep.  [default: runs/sweeps/SPEC]")
@click.option("--quick", is_flag=True, help="Run the spec's quick form, for a first try: minutes on a CPU.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting for all cells; repeatable.")
@click.option("--data-root", metavar="FOLDER", help="Folder of torchvision's data sets; missing files are downloaded.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Train only the first N cells.")
@click.option("--dry-run", is_flag=True, help="Check the spec without data, print the grid, and exit.")
@click.option("--report-only", is_flag=True, help="Train nothing; write the report of the existing runs.")
@version_option("torch")
def main(spec: Path, **flags: Any) -> None:
    """Trains every cell of SPEC with every seed and writes one report.

    After a stop or a kill, the same command continues.
    """
    from trainer.sweep.command import run  # imports torch, which takes seconds

    run(spec, flags)


if __name__ == "__main__":
    main()
