"""`ganclient rollback`: makes the server go back to the previous version of a model."""

from __future__ import annotations

import click

from client.commands.load import CHANGE_TIMEOUT_S
from client.commands.model_options import served_names
from client.commands.options import ConnectOptions, server_options
from client.commands.versions import print_versions


@click.command(context_settings={"default_map": {"timeout_s": CHANGE_TIMEOUT_S}})
@click.argument("model", shell_complete=served_names())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@server_options
def rollback(model: str, as_json: bool, connect: ConnectOptions) -> None:
    """Go back to the previous version of a model, and print its versions.

    Makes the newest working version that is older than the default one the default. It stays the default when newer
    versions appear, until 'ganclient load MODEL --newest' or a restart of the server. Needs a server with
    --model-control explicit or poll.
    """
    with connect.client() as client:
        print_versions(client.rollback(model), as_json=as_json)
