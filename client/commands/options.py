"""Flags that several subcommands share, and the types of flags' values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from client.channel import DEFAULT_ADDRESS, check_address
from client.connection import DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S
from client.errors import InvalidRequest, UnwritableOutput
from client.image_output import check_output, check_output_folder

_Command = TypeVar("_Command", bound=Callable[..., Any])


def whole_number(smallest: int, largest: int) -> Callable[[str], int]:
    """The type of a flag whose value is a whole number in `smallest` .. `largest`; one error for everything else."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = smallest - 1
        if not smallest <= number <= largest:
            raise click.BadParameter(f"must be a whole number in {smallest} .. {largest}, not {text!r:.60}")
        return number

    return parse


def writable_picture(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Callback of a flag that names a picture to write."""
    return _checked(check_output, path)


def writable_folder(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Callback of a flag that names a folder to write to."""
    return _checked(check_output_folder, path)


def _checked(check: Callable[[Path], None], path: Path | None) -> Path | None:
    if path is not None:
        try:
            check(path)
        except UnwritableOutput as error:
            raise click.BadParameter(str(error)) from error
    return path


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_TIMEOUT_S:  # refuses NaN too
        raise click.BadParameter(f"must be seconds, more than 0 and at most {MAX_TIMEOUT_S:g}, not {text!r:.60}")
    return seconds


def server_options(command: _Command) -> _Command:
    """Adds --address and --timeout-s, which name the server and how long to wait for it."""
    address = click.option(
        "--address",
        default=DEFAULT_ADDRESS,
        envvar="GANSERVE_ADDRESS",
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT",
        callback=_address,
        help="Where the server listens.",
    )
    timeout_s = click.option(
        "--timeout-s",
        type=_seconds,
        metavar="SECONDS",
        default=DEFAULT_TIMEOUT_S,
        show_default=True,
        help="How long to wait for each answer of the server.",
    )
    return address(timeout_s(command))


def _address(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return check_address(value)
    except InvalidRequest as error:
        raise click.BadParameter(str(error)) from error
