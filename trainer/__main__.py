"""`python -m trainer`: the command line. The work is in command.py, which imports torch."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import rich_click as click

from ganserve.command_line import OneLineErrors, fail, version_option
from trainer.exits import EXIT_INTERRUPTED
from trainer.flags import training_flags


class _Command(OneLineErrors, click.RichCommand):
    """A command with the grouped help of rich-click."""


@click.command(cls=_Command)
@click.rich_config({"theme": "plain-slim", "options_panel_title": "Help"})
@training_flags
@version_option("torch", "torchvision")
def main(**flags: Any) -> None:
    """Trains a GAN: images in, run folder out. The last line printed is the run folder."""
    if sys.stderr.isatty():
        click.echo("starting: PyTorch is being loaded", err=True)
    try:
        from trainer.command import run  # imports torch, which takes seconds
    except KeyboardInterrupt:
        fail("interrupted before training began; no run was created", EXIT_INTERRUPTED)
    run(flags)


def _only_the_first_prints() -> AbstractContextManager[None]:
    """Under torchrun, silences all processes but the first."""
    if "WORLD_SIZE" not in os.environ:
        return nullcontext()
    from trainer.parallel import first_speaks

    return first_speaks()


if __name__ == "__main__":
    with _only_the_first_prints():
        main()
