"""`ganclient completion`: what a shell needs to complete ganclient's words."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

_VARIABLE: Final = "_GANCLIENT_COMPLETE"  # click's name for it, after the command's
_SHELLS: Final = {
    "bash": 'eval "$(ganclient completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(ganclient completion zsh)" in ~/.zshrc',
    "fish": "ganclient completion fish > ~/.config/fish/completions/ganclient.fish",
}


@click.command(epilog="\b\n" + "\n".join(f"{shell:<6}{use}" for shell, use in _SHELLS.items()))
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Prints the script that completes commands, flags and model names in a shell.

    Models are those of the server at GANSERVE_ADDRESS, or at --address where it was typed already.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    click.echo(kind(ctx.find_root().command, {}, "ganclient", _VARIABLE).source())
