"""`ganclient load`: makes the server load a model from its repository."""

from __future__ import annotations

from typing import Final

import click

from client.commands.model_options import served_names
from client.commands.options import ConnectOptions, server_options, whole_number
from client.commands.versions import print_versions

CHANGE_TIMEOUT_S: Final = 300.0  # loading large models, or answering the requests in flight, takes long


@click.command(context_settings={"default_map": {"timeout_s": CHANGE_TIMEOUT_S}})
@click.argument("model", shell_complete=served_names())
@click.option(
    "--version",
    type=whole_number(1, 2**63 - 1),
    metavar="INTEGER",
    help="Make this version the default, until another one is chosen or the server restarts.",
)
@click.option("--newest", is_flag=True, help="Make the newest version the default again.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@server_options
def load(model: str, version: int | None, newest: bool, as_json: bool, connect: ConnectOptions) -> None:
    """Load a model from the server's repository, and print its versions.

    Serves the versions that the version policy in the model's config.pbtxt names: by default the newest one. Requests
    in flight are answered by the version that accepted them. If a version does not work, prints the reason and exits
    with 1; the version served before stays. Needs a server with --model-control explicit or poll.
    """
    if newest and version is not None:
        raise click.UsageError("--version and --newest: give only one of them")
    with connect.client() as client:
        print_versions(client.load(model, version, newest=newest), as_json=as_json)
