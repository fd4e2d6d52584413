"""The flags that say which model, which version and which latents, and what a shell completes them with."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from client.commands.number_types import whole_number
from client.commands.options import connect_options
from client.errors import GanClientError
from client.sdk.model_info import Task

_COMPLETION_TIMEOUT_S: Final = 1.0  # somebody waits for the shell
_NOUNS: Final[dict[Task | None, str]] = {
    None: "served model",
    "generate": "served model that makes images from latents",
    "translate": "served image-to-image model",
}

_Command = TypeVar("_Command", bound=Callable[..., Any])


def model_options(task: Task | None = None) -> Callable[[_Command], _Command]:
    """Adds --model, of a task, and --version."""
    model = click.option(
        "--model",
        required=True,
        help=f"Name of a {_NOUNS[task]}; 'ganclient models' lists them.",
        shell_complete=served_names(task),
    )
    return lambda command: model(version_option(command))


def version_option(command: _Command) -> _Command:
    """Adds --version."""
    return click.option(
        "--version",
        type=whole_number(1, 2**63 - 1),
        metavar="INTEGER",
        help="Version of the model.  [default: the newest that is served]",
    )(command)


def seed_option(command: _Command) -> _Command:
    """Adds --seed."""
    return click.option(
        "--seed",
        type=whole_number(0, 2**64 - 1),
        metavar="INTEGER",
        help="The same seed gives the same images.  [default: a random one]",
    )(command)


def served_names(
    task: Task | None = None,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What completes a model's name: the names that the server gives; none if it does not answer soon.

    A name that a shell would take for more than a word is left out: the line it lands on is about to be run.
    """

    def complete(ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        if ctx.params["address"] is None:  # what was typed is none
            return []
        try:
            with connect_options(ctx.params | {"timeout_s": _COMPLETION_TIMEOUT_S}).client() as client:
                served = client.models()
        except (GanClientError, click.UsageError):  # nobody would see a message
            return []
        help_of = {
            model.name: f"{model.kind or 'imported'}, {model.width}x{model.height}"
            for model in served
            if task in (None, model.task) and shlex.quote(model.name) == model.name
        }
        return [CompletionItem(name, help=text) for name, text in sorted(help_of.items()) if name.startswith(typed)]

    return complete
