"""`ganclient completion`: prints the completion script for a shell."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

_VARIABLE: Final = "_GANCLIENT_COMPLETE"  # named by click after the command
_SHELLS: Final = {
    "bash": 'eval "$(ganclient completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(ganclient completion zsh)" in ~/.zshrc',
    "fish": "ganclient completion fish > ~/.config/fish/completions/ganclient.fish",
}


@click.command(epilog="\b\nSetup:\n" + "\n".join(f"  {shell:<6}{use}" for shell, use in _SHELLS.items()))
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell completion script.

    The script completes commands, options and the names of served models. It asks the server at --address if that is
    already typed, and otherwise at GANSERVE_ADDRESS.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    click.echo(kind(ctx.find_root().command, {}, "ganclient", _VARIABLE).source())
