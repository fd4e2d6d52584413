"""The ganclient command: registers the subcommands, and turns errors into one line and an exit code.

Exit codes: 0 success; 1 the server is unreachable, busy or failing; 2 invalid input; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any, Final

import click

from client.commands.bench import bench
from client.commands.completion import completion
from client.commands.explore import explore
from client.commands.grid import grid
from client.commands.health import health
from client.commands.info import info
from client.commands.interpolate import interpolate
from client.commands.latents import latents
from client.commands.load import load
from client.commands.models import models
from client.commands.rollback import rollback
from client.commands.sample import sample
from client.commands.translate import translate
from client.commands.traverse import traverse
from client.commands.unload import unload
from client.commands.versions import versions
from client.errors import AccessDenied, GanClientError, InvalidRequest, UnknownModel, UnwritableOutput, one_line
from client.files.images import remove_unfinished
from ganserve.command_line import OneLineErrors, version_option

_INTERRUPTED: Final = 130
_USER_MISTAKES: Final = (AccessDenied, InvalidRequest, UnknownModel, UnwritableOutput)


class _OneLineError(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(one_line(message))  # user input may hold control characters
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance


class _ErrorsAsExitCodes(OneLineErrors, click.Group):
    """Turns the error of any subcommand into one line on stderr and an exit code."""

    def describe(self, error: click.UsageError) -> str:
        """The text of a usage error."""
        return one_line(super().describe(error))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the subcommand."""
        try:
            return super().invoke(ctx)
        except GanClientError as error:
            raise _OneLineError(str(error), 2 if isinstance(error, _USER_MISTAKES) else 1) from error
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)


@click.group(cls=_ErrorsAsExitCodes, context_settings={"help_option_names": ["-h", "--help"]})
@version_option("grpcio")
def cli() -> None:
    """Generate, translate and explore images with a ganserve server.

    The environment variable GANSERVE_ADDRESS sets the default of --address for all commands. Run 'ganclient COMMAND
    --help' for the options of a command.
    """


_COMMANDS = [
    bench,
    completion,
    explore,
    grid,
    health,
    info,
    interpolate,
    latents,
    load,
    models,
    rollback,
    sample,
    translate,
    traverse,
    unload,
    versions,
]
for _command in _COMMANDS:
    cli.add_command(_command)


def _quit(_number: int, _frame: FrameType | None) -> None:
    """Exits immediately: gRPC swallows a KeyboardInterrupt raised inside one of its callbacks."""
    remove_unfinished()
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # a progress bar hides the cursor
    os._exit(_INTERRUPTED)


def main() -> None:
    """The entry point of the console script."""
    signal.signal(signal.SIGINT, _quit)
    cli(prog_name="ganclient")


if __name__ == "__main__":
    main()
