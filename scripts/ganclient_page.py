"""Writes docs/ganclient.md, what `ganclient --help` says of every command: `make pages`; a test checks for drift."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from client.__main__ import cli
from client.commands.options import CONNECT_FLAGS, ConnectOptions, server_options

PAGE = Path(__file__).parents[1] / "docs" / "ganclient.md"

_WIDTH: Final = 100  # characters of a line, whatever terminal this runs in
_HEAD: Final = """# ganclient

What `ganclient COMMAND --help` says, written by `make pages`. In a shell, `eval "$(ganclient completion bash)"`
completes commands, flags and the names of served models.

Commands that talk to a server take [more flags](#flags-of-all-that-talk-to-a-server).

Exit codes of all commands: 0 done; 1 the server is not reachable, busy or failing; 2 a mistake in what was asked for;
130 interrupted.
"""


def page() -> str:
    """The page."""
    sections = [*_helps(), ("Flags of all that talk to a server", _of_a_server())]
    return _HEAD + "".join(f"\n## {name}\n\n```text\n{text}```\n" for name, text in sections)


def _helps() -> Iterator[tuple[str, str]]:
    settings: dict[str, Any] = {"terminal_width": _WIDTH, "max_content_width": _WIDTH}
    with click.Context(cli, info_name="ganclient", **settings) as root:
        yield "ganclient", _as_lines(_without_help_flag(cli).get_help(root))
        for name in cli.list_commands(root):
            command = cli.get_command(root, name)
            assert command is not None
            shown = _without_help_flag(command)
            shown.params = [parameter for parameter in command.params if parameter.name not in CONNECT_FLAGS]
            with click.Context(shown, info_name=name, parent=root, **settings) as context:
                yield f"ganclient {name}", _as_lines(shown.get_help(context))


def _without_help_flag(command: click.Command) -> click.Command:
    """A copy that does not list --help, which every command has; click keeps the flag as it was first asked for."""
    shown = copy.copy(command)
    shown.add_help_option = False
    return shown


def _of_a_server() -> str:
    @click.command(add_help_option=False)
    @server_options
    def command(connect: ConnectOptions) -> None: ...

    with click.Context(command, terminal_width=_WIDTH, max_content_width=_WIDTH) as context:
        formatter = context.make_formatter()
        command.format_options(context, formatter)
    return _as_lines(formatter.getvalue().partition("\n")[2])


def _as_lines(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


if __name__ == "__main__":
    PAGE.write_text(page())
