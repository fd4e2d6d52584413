"""`python -m trainer.report RUN...`: the command line. The work is in command.py, which imports torch."""

from __future__ import annotations

from pathlib import Path

import click

from ganserve.command_line import OneLineErrors, version_option


@click.command(cls=OneLineErrors, context_settings={"max_content_width": 100, "show_default": True})
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--out", type=click.Path(path_type=Path), default=Path("report.html"), help="HTML file to write.")
@version_option("torch")
def main(runs: tuple[Path, ...], out: Path) -> None:
    """Writes one self-contained HTML page about a run, or several runs side by side."""
    from trainer.report.command import run  # imports torch, which takes seconds

    run(runs, out)


if __name__ == "__main__":
    main()
