"""The flags --model, --version and --seed, and the shell completion of model names."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from client.commands.local_models import names_in
from client.commands.options import CONNECT_FLAGS, ConnectOptions, whole_number
from client.errors import GanClientError
from client.sdk.model_info import Task

_COMPLETION_TIMEOUT_S: Final = 1.0  # completion must feel instant
_NOUNS: Final[dict[Task | None, str]] = {
    None: "served model",
    "generate": "served generator",
    "translate": "served image-to-image model",
}

_Command = TypeVar("_Command", bound=Callable[..., Any])


def model_options(task: Task | None = None) -> Callable[[_Command], _Command]:
    """Adds --model (completed with the models for `task`) and --version."""
    model = click.option(
        "--model",
        required=True,
        metavar="NAME",
        help=f"Name of a {_NOUNS[task]}; 'ganclient models' lists them.",
        shell_complete=served_names(task),
    )
    return lambda command: model(version_option(command))


def version_option(command: _Command) -> _Command:
    """Adds --version."""
    return click.option(
        "--version",
        type=_version,
        metavar="VERSION",
        help="Version of the model: a number, or a label such as stable.  [default: the server's, normally the newest]",
    )(command)


def _version(text: str) -> int | str:
    """The type of --version."""
    if text[:1].isascii() and text[:1].isalpha():
        return text  # the SDK checks labels
    return whole_number(1, 2**63 - 1)(text)


def seed_option(command: _Command) -> _Command:
    """Adds --seed."""
    return click.option(
        "--seed",
        type=whole_number(0, 2**64 - 1),
        metavar="INTEGER",
        help="Seed of the latents; the same seed gives the same images.  [default: random]",
    )(command)


def served_names(
    task: Task | None = None,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Shell completion of model names: those that the server lists, or those in the folder of --models.

    None if the server does not respond in time. Names that need quoting are left out, because the user is about to run
    the completed line.
    """

    def complete(ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        flags: dict[str, Any] = {name: ctx.params.get(name) for name in CONNECT_FLAGS} | {
            "timeout_s": _COMPLETION_TIMEOUT_S
        }
        connect = ConnectOptions(**flags)
        if connect.models is not None:
            return [CompletionItem(name) for name in names_in(connect.models) if name.startswith(typed)]
        try:
            with connect.client() as client:
                served = client.models()
        except (GanClientError, click.UsageError):  # an error message would disturb the command line
            return []
        help_of = {
            model.name: f"{model.kind or 'imported'}, {model.width}x{model.height}"
            for model in served
            if task in (None, model.task) and shlex.quote(model.name) == model.name
        }
        return [CompletionItem(name, help=text) for name, text in sorted(help_of.items()) if name.startswith(typed)]

    return complete
