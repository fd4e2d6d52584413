"""`ganclient unload`: makes the server stop serving a model."""

from __future__ import annotations

import click

from client.commands.load import CHANGE_TIMEOUT_S
from client.commands.model_options import served_names
from client.commands.options import ConnectOptions, server_options, whole_number


@click.command(context_settings={"default_map": {"timeout_s": CHANGE_TIMEOUT_S}})
@click.argument("model", shell_complete=served_names())
@click.option(
    "--version",
    type=whole_number(1, 2**63 - 1),
    metavar="INTEGER",
    help="Unload only this version.  [default: all]",
)
@server_options
def unload(model: str, version: int | None, connect: ConnectOptions) -> None:
    """Stop serving a model, or one version of it.

    Returns once its requests in flight are answered. 'ganclient load' serves it again. Needs a server with
    --model-control explicit or poll.
    """
    with connect.client() as client:
        client.unload(model, version)
    click.echo(f"unloaded {model}" + (f":{version}" if version else ""))
