"""What all command lines share: errors in one line, no nan or infinity as a value, and --version."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypeVar

import click
from click.exceptions import NoArgsIsHelpError

from ganserve.foreign import version_of

USER_ERROR: Final = 2
_PROGRAM: Final = "program"  # the value of a --version without a number

_Command = TypeVar("_Command", bound=Callable[..., Any])


def fail(message: str, code: int) -> NoReturn:
    """Prints an error line and exits."""
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(code)


class OneLineErrors(click.Command):
    """A command whose usage errors are one line, and whose numbers are all finite.

    A group that inherits from this class and click.Group covers its subcommands too, except for the numbers.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for param in self.params:  # click would say "not a valid integer range"
            if isinstance(param.type, click.IntRange):
                param.type.name = "integer"
            elif isinstance(param.type, click.FloatRange):
                param.type.name = "number"

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        """Parses the command line."""
        with self._errors_in_one_line():
            return super().make_context(*arguments, **settings)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the command line into `ctx`; refuses nan and infinity, which pass most checks of a range."""
        rest = super().parse_args(ctx, args)
        for param in self.params:
            value = ctx.params.get(param.name or "")
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise click.BadParameter(f"{number} is not a finite number.", ctx=ctx, param=param)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        with self._errors_in_one_line():
            return super().invoke(ctx)

    def describe(self, error: click.UsageError) -> str:
        """The text of a usage error."""
        return error.format_message()

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except NoArgsIsHelpError:  # prints the help, not an error
            raise
        except click.UsageError as error:  # click would print two lines of usage before it
            fail(self.describe(error), error.exit_code)


def versions(*packages: str | tuple[str, ...]) -> str:
    """The versions of ganserve, Python and some packages, without importing them.

    Args:
        packages: names of distributions; of a tuple, the first that is installed counts, under the tuple's last name.
    """
    named = [(package,) if isinstance(package, str) else package for package in packages]
    others = [f"{names[-1]} {version_of(*names)}" for names in named]
    return ", ".join([f"ganserve {version_of('ganserve')}", f"Python {platform.python_version()}", *others])


def version_option(*packages: str | tuple[str, ...]) -> Callable[[_Command], _Command]:
    """Adds --version, which prints `versions(*packages)`."""

    def show(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # click's signature
        if value and not ctx.resilient_parsing:
            click.echo(versions(*packages))
            ctx.exit()

    return click.option(
        "--version",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        allow_from_autoenv=False,
        callback=show,
        help="Print versions and exit.",
    )


class ModelVersion(click.IntRange):
    """The type of a --version that selects a model's version, and prints `versions(*packages)` without a number."""

    def __init__(self, most: int | None, *packages: str | tuple[str, ...]) -> None:
        super().__init__(1, most)
        self._packages = packages

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Converts the value of the flag."""
        if value == _PROGRAM and ctx is not None:
            click.echo(versions(*self._packages))
            ctx.exit()
        return super().convert(value, param, ctx)


def model_version_option(
    most: int | None, *packages: str | tuple[str, ...], text: str
) -> Callable[[_Command], _Command]:
    """Adds `--version N`, from 1 to `most`, for a model's version; without a number, it prints our own versions."""
    return click.option(
        "--version",
        type=ModelVersion(most, *packages),
        is_flag=False,
        flag_value=_PROGRAM,
        is_eager=True,
        metavar="[N]",
        help=f"{text}  Without a number, print the versions of ganserve and what it uses.",
    )
